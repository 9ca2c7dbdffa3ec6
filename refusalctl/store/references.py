"""What a person calls an artifact: an id or its beginning, a name, its folder, or a query."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from refusalctl.disk import given_path
from refusalctl.errors import Ambiguous, BadInput, NotFound
from refusalctl.file_errors import printable
from refusalctl.language_codes import canonical, check_code
from refusalctl.store import names
from refusalctl.store.artifact import KINDS, Artifact

_HEX = frozenset("0123456789abcdef")
_LANGUAGES = ("lang", "direction_lang", "source", "target", "sources", "targets")  # `source` of an import is none
_LS = "see `refusalctl artifacts ls`"


class Shelves(Protocol):
    """What a reference is looked up in: a `Store`, which itself resolves references by this module, or artifacts that
    lie elsewhere, and are in no folder.

    `where` is how messages call it.
    """

    @property
    def root(self) -> Path | None: ...
    @property
    def where(self) -> str: ...
    def names(self) -> Mapping[str, str]: ...
    def folders(self, kind: str | None = None) -> Iterable[tuple[str, str]]: ...
    def open(self, kind: str, identifier: str) -> Artifact: ...
    def all(self, kind: str | None = None) -> Iterable[Artifact]: ...


def resolve(store: Shelves, reference: str) -> Artifact:
    """The one artifact that is meant. Raises `NotFound`, `Ambiguous` or `BadInput`."""
    asked = reference.strip()
    if not asked:
        raise BadInput("the reference is empty", hint="give an id, its beginning, a name or a query")
    target = store.names().get(names.plain(asked))
    if target is not None:
        kind, _, identifier = target.partition("/")
        return store.open(kind, identifier)
    if store.root is not None and asked in names.damaged(store.root):
        raise NotFound(
            f"the name {asked!r} points to nothing: its file is damaged",
            hint="give it again with `refusalctl artifacts name`",
        )
    found = _by_folder(store, asked)
    return found if found is not None else _by_text(store, asked)


def resolve_all(store: Shelves, reference: str) -> list[Artifact]:
    """All that a query such as `labels:judge=wildguard` fits; else the one artifact meant. Raises as `resolve`."""
    asked = reference.strip()
    is_query = ":" in asked and "/" not in asked.partition(":")[0] and not asked.startswith("sha256:")
    if is_query and names.plain(asked) not in store.names():
        found = _fitting(store, asked)
        if not found:
            _only(printable(asked), found, store)
        return found
    return [resolve(store, asked)]


def damaged(store: Shelves, reference: str) -> tuple[str, str] | None:
    """Kind and id of the one folder that a reference means, though no manifest may say so."""
    target = store.names().get(reference, reference).rstrip("/")
    kind, _, prefix = target.removeprefix("sha256:").rpartition("/")
    kind = Path(kind).name
    found = [(k, i) for k, i in store.folders() if prefix and i.startswith(prefix) and kind in ("", k)]
    return found[0] if len(found) == 1 else None


def _by_text(store: Shelves, asked: str) -> Artifact:
    kind, _, prefix = asked.rstrip("/").rpartition("/")
    prefix = prefix.removeprefix("sha256:").lower()
    if prefix and set(prefix) <= _HEX and ":" not in kind and "/" not in kind:
        of_kind = check_kind(kind) if kind else None
        found = [(k, i) for k, i in store.folders(of_kind) if i.startswith(prefix)]
        if len(found) > 1:
            raise Ambiguous(printable(asked), [f"{k}/{i[:12]}" for k, i in found])
        if found:
            return store.open(*found[0])
        raise NotFound(f"no artifact answers to {printable(asked)!r} in {store.where}", hint=_LS)
    if ":" in asked and "/" not in asked.partition(":")[0]:
        return _query(store, asked)
    if asked in KINDS:
        return _query(store, f"{asked}:")
    close = difflib.get_close_matches(asked, store.names(), 1)
    hint = f"did you mean {close[0]!r}?" if close else _LS
    raise NotFound(f"there is no artifact named {printable(asked)!r} in {store.where}", hint=hint)


def _by_folder(store: Shelves, asked: str) -> Artifact | None:
    """An artifact's folder or a file in it, as a shell completes it; None where the text is no such path."""
    if store.root is None or ("/" not in asked and "\\" not in asked):
        return None
    path = given_path(asked, "the reference")
    if not path.exists():
        return None
    root, path = store.root.resolve(), path.resolve()
    if not path.is_relative_to(root):
        if len(path.name) == 64 or path.is_absolute():
            raise NotFound(f"{printable(asked)} is not in the store {store.where}", hint="name its store with --store")
        return None
    parts = path.relative_to(root).parts
    return store.open(parts[0], parts[1]) if len(parts) > 1 and len(parts[1]) == 64 else None


def check_kind(kind: str) -> str:
    """The kind, if there is one of that name. Raises `BadInput` naming the nearest."""
    if kind in KINDS:
        return kind
    close = difflib.get_close_matches(kind, KINDS, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise BadInput(f"{printable(kind)!r} is not a kind of artifact", hint=f"{hint}kinds: {', '.join(KINDS)}")


def _query(store: Shelves, asked: str) -> Artifact:
    return _only(printable(asked), _fitting(store, asked), store)


def _fitting(store: Shelves, asked: str) -> list[Artifact]:
    """Every artifact that a query fits. Raises `BadInput` for one that says nothing."""
    kind, _, conditions = asked.partition(":")
    check_kind(kind)
    wanted: dict[str, str] = {}
    for part in conditions.split(","):
        key, equals, value = part.partition("=")
        if part and not (equals and key.strip()):
            raise BadInput(
                f"{printable(part)!r} is no condition of a query", hint="write it as key=value, such as lang=ba"
            )
        if part:
            wanted[key.strip()] = value.strip()
    found = [a for a in store.all(kind) if all(_fits(a, key, value) for key, value in wanted.items())]
    for value in (wanted[key] for key in _LANGUAGES if key in wanted and key != "source" and not found):
        for each in value.split(","):
            check_code(each)
    return found


def _fits(artifact: Artifact, key: str, value: str) -> bool:
    if key == "revision":  # tells two models of one name apart
        mine = revision(artifact)
        return bool(value) and (mine.startswith(value) or short_revision(mine).startswith(value))
    if key == "model" and "@" in value:  # as `artifacts ls` writes it
        name, _, short = value.rpartition("@")
        return str(artifact.about.get(key)) == name and _fits(artifact, "revision", short)
    if key in _LANGUAGES:
        return _spelled(str(artifact.about.get(key))) == _spelled(value)
    return str(artifact.about.get(key)) == value


def _spelled(languages: str) -> list[str]:
    """Codes in their one spelling; what is none, as an import of an earlier version may say it, stays."""
    return [canonical(each) or each.strip() for each in languages.split(",")]


def revision(artifact: Artifact) -> str:
    """The revision of the model that an artifact was made with; empty where it says none."""
    said = artifact.manifest["recipe"].get("model")
    found = said.get("revision") if isinstance(said, dict) else artifact.about.get("revision")
    return str(found or "")


def short_revision(text: str) -> str:
    """The beginning of a revision that tells it apart, without saying what kind it is."""
    return text.removeprefix("files-")[:8]


def _only(asked: str, found: Sequence[Artifact], store: Shelves) -> Artifact:
    if not found:
        raise NotFound(f"no artifact answers to {asked!r} in {store.where}", hint=_LS)
    if len(found) > 1:
        raise Ambiguous(asked, [a.label for a in found])
    return found[0]
