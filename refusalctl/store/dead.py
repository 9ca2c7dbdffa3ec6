"""Finishing what killed processes had begun, and sweeping what they left in `tmp/`: by the next start, and by `gc`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from refusalctl.disk import remove_tree
from refusalctl.store import marks, names
from refusalctl.store.drafts import Grave, drop_lock, graves, is_lock, leftovers, pending, put_aside


def sweep_dead(root: Path, min_age: float = 0.0) -> None:
    """Remove drafts of processes that have ended, with marks of what never came to its place; finish removals, and
    changes of names. What cannot be removed now is left to the next one."""
    with suppress(OSError):
        left = leftovers(root, min_age)
        buried = {grave.folder: grave for grave in graves(root)}
        for folder in left:
            with suppress(OSError):
                drop_left(root, folder, buried.get(folder))
        names.settle(root)


def drop_left(root: Path, path: Path, grave: Grave | None) -> None:
    """Remove what was left in `tmp/`: a lock, an artifact that is being removed, or a draft.

    A damaged artifact that was put aside goes back where nothing took its place.
    """
    aside = next((each for each in put_aside(root) if each.folder == path), None)
    if is_lock(path):
        drop_lock(path)
    elif aside is not None:
        put_back(root, aside)
    elif grave is not None:
        finish_removal(root, grave)
    else:
        drop_draft(root, path)


def put_back(root: Path, aside: Grave) -> None:
    """Damaged is better than gone: `verify` names it, and what people made is in no recipe.

    A place that was taken stays taken, since a folder does not take that of another.
    """
    home = root / aside.kind / aside.id
    try:
        aside.folder.rename(home)
    except OSError:
        if home.exists():
            remove_tree(aside.folder)


def drop_draft(root: Path, folder: Path) -> None:
    """Remove a draft; first the mark of what it was to become, unless that is there."""
    for mark in marks.of_draft(root, folder):
        marks.drop(root, mark)
    remove_tree(folder)


def finish_removal(root: Path, grave: Grave) -> None:
    """Take away the names and marks of an artifact that was moved out of sight, and then its files."""
    if not (root / grave.kind / grave.id).is_dir():  # computed again meanwhile
        for name, target in names.listed(root).items():
            if target == f"{grave.kind}/{grave.id}":
                names.forget(root, name, target)
        for mark in marks.of_draft(root, grave.folder) or marks.looked_for(root, grave.id):
            marks.drop(root, mark)
    remove_tree(grave.folder)


def being_moved(root: Path) -> set[str]:
    """Ids of artifacts that are on their way into the store or out of it: no damage where they are not there yet, or
    not any more."""
    return pending(root) | {each.id for each in (*graves(root), *put_aside(root))}
