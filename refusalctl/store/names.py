"""Names that people give to artifacts: `names/<name>` holds `kind/id`, and `named/` a second record of each.

The record tells that a name was deleted or changed by something else than this program, and gives it back. A name is
changed in three writes: the record with what was before and who changes it, the name, the record alone. A kill between
them leaves a record that allows both; `settle` lets what the name says count then.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from refusalctl.disk import is_foreign, make_durable, sync
from refusalctl.errors import BadInput
from refusalctl.file_errors import printable
from refusalctl.locks import locked
from refusalctl.store.drafts import alive, draft_name, replace_whole
from refusalctl.store.hashing import canonical, digest
from refusalctl.untrusted import SMALL, parse_object, read_bytes

ROOM, RECORDS = "names", "named"

LONGEST = 100  # characters; 255 bytes is what most file systems take
_HEX = frozenset("0123456789abcdef")
_TARGET = re.compile(r"[a-z_]+/[0-9a-f]{64}")  # and the end of a line
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}  # Windows


class Record(NamedTuple):
    """The second record of a name. `by`: the draft name of a process that is changing it from `before` to `target`."""

    name: str
    target: str | None
    before: str | None = None
    by: str | None = None

    @property
    def allowed(self) -> set[str | None]:
        """What the name's file may say."""
        return {self.target, self.before} if self.by else {self.target}


def check_name(name: str) -> None:
    """Raise `BadInput` for a name that could be taken for an id, a path, a query or an option, or that some file
    system could not keep."""
    wrong = _wrong(name)
    if wrong:
        shown = printable(name if len(name) <= 40 else f"{name[:40]}...")
        raise BadInput(
            f"{shown!r} cannot be a name: {wrong}", hint="use letters, digits, '-' and '_', not only hexadecimal digits"
        )


def _wrong(name: str) -> str | None:
    if not name.strip():
        return "it is empty"
    if len(name) > LONGEST or len(name.encode("utf-8", "surrogatepass")) > 2 * LONGEST:
        return f"it has {len(name)} characters, at most {LONGEST} are kept"
    if name != name.strip():
        return "it begins or ends with a space"
    odd = next((c for c in name if not c.isprintable()), None)
    if odd is not None:
        return f"it holds the character U+{ord(odd):04X}"
    odd = next((c for c in name if c in '/\\:<>"|?*,@%$`=[]{}'), None)
    if odd is not None:
        return f"it holds {odd!r}"
    if name[0] in ".-~":
        return f"it begins with {name[0]!r}"
    if name.endswith("."):
        return "it ends with '.'"
    if set(name.lower()) <= _HEX:
        return "it could be the beginning of an id"
    if name.lower().partition(".")[0] in _RESERVED:
        return "Windows keeps it for a device"
    return "a file of that name would be taken for another program's" if is_foreign(name) else None


def plain(name: str) -> str:
    """One form of a name: letters with accents can be written in two ways that look alike."""
    return unicodedata.normalize("NFC", name)


def check_free(root: Path, name: str) -> None:
    """`check_name`, and raise `BadInput` where another name differs from this one only in case."""
    check_name(name)
    mine = plain(name)
    for other in listed(root):
        if other != mine and other.casefold() == mine.casefold():
            raise BadInput(
                f"{printable(name)!r} and the name {other!r}, which is there, differ only in case",
                hint="some file systems keep only one of them: choose another name",
            )


def point(root: Path, name: str, target: str) -> None:
    """Let a name point to `kind/id`; one that is there is moved."""
    check_free(root, name)
    name = plain(name)
    with _changing(root, name) as before:
        _write(root, Record(name, target, before, draft_name()))
        make_durable(root / ROOM)
        replace_whole(root, root / ROOM / name, f"{target}\n".encode())
        _write(root, Record(name, target))


def forget(root: Path, name: str, target: str | None = None) -> None:
    """Take a name away; with `target` only while it points there."""
    with _changing(root, plain(name)) as before:
        if target is not None and before != target:
            return
        _write(root, Record(plain(name), None, before, draft_name()))
        for file in (root / ROOM / name, root / ROOM / plain(name)):
            file.unlink(missing_ok=True)
        sync(root / ROOM)
        record_file(root, name).unlink(missing_ok=True)


def settle(root: Path) -> None:
    """Finish what killed processes left half done: what a name's file says counts."""
    for record in records(root).values():
        if record is not None and record.by and alive(record.by) is False:
            with _changing(root, record.name) as now:
                if now is None:
                    record_file(root, record.name).unlink(missing_ok=True)
                else:
                    _write(root, Record(record.name, now))


def mend(root: Path, name: str, target: str | None) -> None:
    """Make a name and its record say one thing, after damage; without a target both are dropped."""
    if target is not None and _TARGET.fullmatch(target) and _wrong(name) is None:
        return point(root, name, target)
    with suppress(OSError):
        (root / ROOM / name).unlink(missing_ok=True)
    return record_file(root, name).unlink(missing_ok=True)


@contextmanager
def _changing(root: Path, name: str) -> Iterator[str | None]:
    """What a name points to, which nobody else changes for the block."""
    file = record_file(root, name)
    make_durable(file.parent)
    with locked(file.with_suffix(".lock")):
        yield read(root).get(name)


def _write(root: Path, record: Record) -> None:
    said = record._asdict()
    replace_whole(root, record_file(root, record.name), canonical({**said, "digest": digest(said)}))


def record_file(root: Path, name: str) -> Path:
    """Where the second record of a name is: any name gives a file name that every file system keeps."""
    number = hashlib.sha256(plain(name).encode("utf-8", "surrogatepass")).hexdigest()
    return root / RECORDS / f"{number[:32]}.json"


def records(root: Path) -> dict[str, Record | None]:
    """The second records by the names of their files; None where one was changed."""
    home = root / RECORDS
    files = sorted(home.iterdir()) if home.is_dir() else []
    return {file.name: _record(root, file) for file in files if file.suffix == ".json" and not is_foreign(file.name)}


def _record(root: Path, file: Path) -> Record | None:
    try:
        said = parse_object(read_bytes(file, SMALL))
        told = said.pop("digest")
        record = Record(**said)
        whole = digest(said) == told and record_file(root, record.name) == file
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return record if whole else None


def listed(root: Path) -> dict[str, str]:
    """Name to `kind/id`; without names whose file is damaged."""
    return {name: target for name, target in read(root).items() if target is not None}


def recorded(root: Path) -> dict[str, str]:
    """What names pointed to when they were last given, also where their files are gone or were changed since."""
    found = (record for record in records(root).values() if record is not None)
    return {record.name: target for record in found if (target := record.target or record.before)}


def damaged(root: Path) -> list[str]:
    """Names whose file says nothing that could be an artifact."""
    return [name for name, target in read(root).items() if target is None]


def read(root: Path) -> dict[str, str | None]:
    """Every name, and what its file says; None where that could be no artifact."""
    try:
        files = sorted(p for p in (root / ROOM).iterdir() if not p.name.startswith(".") and not is_foreign(p.name))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {plain(file.name): _target(file) for file in files}


def _target(file: Path) -> str | None:
    try:
        text = read_bytes(file, SMALL).decode()  # no end of a line is translated
    except (OSError, ValueError):
        return None
    target, end = text[:-1], text[-1:]
    return target if end == "\n" and _TARGET.fullmatch(target) else None
