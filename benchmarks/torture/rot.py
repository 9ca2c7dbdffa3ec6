"""Bytes that change, files that are cut, files and folders that go: over an artifact of every kind, and over what a
store keeps beside them. Each damage is done alone, looked for, and undone.

What may be forgotten (`cache/`, rows in `partial/`) is only changed: it may be cut or go at any time.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.torture.rows import Row, Work, share
from benchmarks.torture.stores import put
from refusalctl.errors import RefusalctlError
from refusalctl.store import formats, marks
from refusalctl.store.artifact import MANIFEST, RUN
from refusalctl.store.cache import TextCache
from refusalctl.store.hashing import canonical, digest
from refusalctl.store.listing import listing
from refusalctl.store.store import KINDS, Store
from refusalctl.store.verify import verify

N, SHORT, FULL = "damages", 1500, 10_000
GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "store"
FORGETTABLE = ("cache", "partial")
PAYLOAD = "payload"
WAYS = ("flip", "flip", "cut", "remove", "remove the folder")


class Done(NamedTuple):
    """One damage: to what, how, and whether it was found by `verify` and by using what was damaged."""

    what: str
    way: str
    by_verify: bool
    by_use: bool


def run(work: Work) -> list[Row]:
    root, random_ = work.folder / "store", random.Random(work.seed)
    filled(root)
    before = {(problem.where, problem.what) for problem in verify(Store(root)).problems}
    files = sorted(path for path in root.rglob("*") if path.is_file())
    by_room = _rooms(root, files)
    done = []
    for _ in range(work.n):
        path = random_.choice(by_room[random_.choice(sorted(by_room))])
        each = damaged(root, path, random_, before)
        if each is not None:
            done.append(each)
            if not each.by_verify:
                print(f"not found: {each.way} {path.relative_to(root)}", file=sys.stderr)
    return _rows(done, len(files))


def _rows(done: list[Done], n_files: int) -> list[Row]:
    rows = [Row("files", n_files), Row("damages", len(done), at_least=1)]
    rows.append(share("found by verify", sum(d.by_verify for d in done), len(done), at_least=100))
    rows.append(share("found by opening and reading", sum(d.by_use for d in done), len(done)))
    rows.append(Row("kinds of artifacts damaged", len({d.what for d in done if d.what.startswith(PAYLOAD)})))
    groups: dict[str, list[Done]] = {}
    for each in done:
        groups.setdefault(each.way, []).append(each)
        groups.setdefault(PAYLOAD if each.what.startswith(PAYLOAD) else each.what, []).append(each)
    for group, mine in sorted(groups.items()):
        rows.append(share(f"{group}, {len(mine)}: found by verify", sum(d.by_verify for d in mine), len(mine)))
        rows.append(share(f"{group}, {len(mine)}: found by opening", sum(d.by_use for d in mine), len(mine)))
    return rows


def filled(root: Path) -> None:
    """One artifact of every kind as commands leave it, some that were made from others, and all of the bookkeeping."""
    shutil.copytree(GOLDEN, root)
    store = Store(root)
    for artifact in store.all():
        marks.write(root, digest(artifact.manifest["recipe"]), artifact.id, canonical(artifact.manifest))
        if artifact.kind in ("selection", "labels", "report"):
            store.name(f"my-{artifact.kind}", artifact)
    first = put(store, 1, "prompts")
    store.name("имя", put(store, 2, "completions", prompts=first.id))
    TextCache(store, "translations", "key").add({digest(i): f"text {i}" for i in range(20)})
    rows = root / "partial" / digest("unfinished") / "completions.jsonl"
    rows.parent.mkdir(parents=True)
    formats.append_rows(rows, [{"prompt_id": str(i), "text": "some text"} for i in range(20)])
    listing(store)


def _rooms(root: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Files by what they are, so that each is met as often: payloads of each kind, manifests, and so on."""
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(_what(root, path), []).append(path)
    return found


def _what(root: Path, path: Path) -> str:
    room = path.relative_to(root).parts[0]
    if room not in KINDS:
        return room
    return {MANIFEST: "manifests", RUN: "run records"}.get(path.name, f"{PAYLOAD} of {room}")


def damaged(root: Path, path: Path, random_: random.Random, before: set[tuple[str, str]]) -> Done | None:
    """Damage one file, look, and put it back. None where there was nothing to damage."""
    what, way = _what(root, path), random_.choice(WAYS)
    if what in FORGETTABLE:
        way = "flip"
    content = path.read_bytes()
    if way in ("flip", "cut") and not content:
        return None
    aside = root.parent / "aside"
    undo: Callable[[], object] = lambda: path.write_bytes(content)  # noqa: E731
    if way == "flip":
        place = random_.randrange(len(content))
        changed = content[place] ^ (1 << random_.randrange(8))
        path.write_bytes(content[:place] + bytes([changed]) + content[place + 1 :])
    elif way == "cut":
        path.write_bytes(content[: random_.randrange(len(content))])
    elif way == "remove":
        path.unlink()
    else:
        folder = path.parent
        if folder.parent == root:  # all names, say, are a room and no artifact
            path.unlink()
        else:
            folder.rename(aside)
            undo = lambda: aside.rename(folder)  # noqa: E731
    try:
        problems = [p for p in verify(Store(root)).problems if (p.where, p.what) not in before]
        return Done(what, way, bool(problems), _used(root, path, what))
    finally:
        undo()


def _used(root: Path, path: Path, what: str) -> bool:
    """Whether one who uses what was damaged is told, or gets no wrong answer because it is not believed."""
    store = Store(root)
    parts = path.relative_to(root).parts
    try:
        if parts[0] in KINDS:
            artifact = store.open(parts[0], parts[1])
            if what == "run records":
                store.run_info(artifact)
            store.check(artifact)
        elif what == "names":
            store.resolve(path.name)
        elif what == "recipes":
            return marks.read(path).manifest is None
        elif what == "cache":
            return True if path.suffix == ".json" else len(TextCache(store, parts[1], path.stem).read()) < 20
        elif what == "partial":
            content = path.read_bytes()
            found = len(formats.read_finished_rows(path)) < 20
            path.write_bytes(content)
            return found
        else:
            return False
    except RefusalctlError:
        return True
    return False
