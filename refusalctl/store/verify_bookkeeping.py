"""Looking at what a store keeps beside its artifacts: names and their records, and what may be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from refusalctl.file_errors import printable
from refusalctl.store import names
from refusalctl.store.artifact import Problem
from refusalctl.store.cache import read_line
from refusalctl.store.damage import Damage
from refusalctl.store.drafts import graves
from refusalctl.store.hashing import canonical, digest
from refusalctl.store.listing import read as read_listing
from refusalctl.store.store import Store
from refusalctl.untrusted import LARGE, parse_object, read_bytes

_SHOWN = 100  # characters of what a name points to: a kind and an id


def names_and_records(store: Store) -> Iterator[Problem]:
    """Names that are gone, changed, or point nowhere, and records that are."""
    files = names.read(store.root)
    records: dict[str, names.Record] = {}
    for file, record in names.records(store.root).items():
        if record is None:
            what = "its bytes were changed: it records a name for the case that this is lost"
            yield Problem(f"{names.RECORDS}/{printable(file)}", what, Damage.CHANGED_RECORD)
        else:
            records[record.name] = record
    known = {f"{kind}/{identifier}" for kind, identifier in store.folders()}
    known |= {f"{grave.kind}/{grave.id}" for grave in graves(store.root)}  # their names go with them
    for name in sorted({*files, *records}):
        found = _name(name, files, records.get(name), known)
        if found is not None:
            yield found


def _name(name: str, files: dict[str, str | None], record: names.Record | None, known: set[str]) -> Problem | None:
    where, target = f"names/{printable(name)}", files.get(name)
    before = "" if record is None else f"; it pointed to {str(record.target or record.before)[:_SHOWN]}"
    if name not in files:
        gone = record is not None and None not in record.allowed
        return Problem(where, f"the name is gone{before}", Damage.MISSING_NAME) if gone else None
    if target is None:
        return Problem(where, f"the file holds no artifact's kind and id{before}", Damage.CHANGED_NAME)
    if record is not None and target not in record.allowed:
        return Problem(where, f"points to {target[:_SHOWN]}, which nobody named so{before}", Damage.CHANGED_NAME)
    if target not in known:
        return Problem(where, f"points to {target[:_SHOWN]}, which is not there", Damage.DANGLING_NAME)
    if record is None:
        what = "nothing records it for the case that it is lost"
        return Problem(where, what, Damage.MISSING_RECORD)
    return None


def caches(store: Store) -> Iterator[Problem]:
    """What may be forgotten, but must not lie. A line that a kill cut short is none of it."""
    listing = store.root / "cache" / "listing.json"
    if listing.is_file() and read_listing(listing) is None:
        yield Problem(
            "cache/listing.json", "its bytes were changed: `artifacts ls` makes it anew", Damage.CHANGED_CACHE
        )
    for file in sorted((store.root / "cache").glob("*/*.jsonl")):
        where = f"cache/{file.parent.name}/{printable(file.name)}"
        lines = _lines(file)
        wrong = sum(line.endswith(b"\n") and line.strip() != b"" and read_line(line) is None for line in lines)
        if wrong:
            yield Problem(where, f"{wrong} lines were changed: they are computed again", Damage.CHANGED_CACHE)
    for file in sorted((store.root / "partial").glob("*/*.jsonl")):
        for number, line in enumerate(_lines(file)):
            if line.endswith(b"\n") and not _is_whole(line):
                what = f"line {number + 1} was changed: it is computed again, with those behind it"
                yield Problem(f"partial/{file.parent.name[:12]}/{printable(file.name)}", what, Damage.CHANGED_CACHE)
                break


def _lines(file: Path) -> list[bytes]:
    """Lines of a file; of what is no ordinary one a line that nobody wrote."""
    try:
        return read_bytes(file, LARGE).splitlines(keepends=True)
    except (OSError, ValueError):
        return [b"?\n"]


def _is_whole(line: bytes) -> bool:
    try:
        told = parse_object(line)
        return line == canonical({"row": told["row"], "sha256": digest(told["row"])}) + b"\n"
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
