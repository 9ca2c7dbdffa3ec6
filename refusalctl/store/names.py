"""Names that people give to artifacts: `names/<name>` holds `kind/id`."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from refusalctl.disk import is_foreign, write_whole
from refusalctl.errors import BadInput
from refusalctl.file_errors import printable
from refusalctl.untrusted import SMALL, read_bytes

LONGEST = 100  # characters; 255 bytes is what most file systems take
_HEX = frozenset("0123456789abcdef")
_TARGET = re.compile(r"[a-z_]+/[0-9a-f]{64}")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}  # Windows


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


def check_free(home: Path, name: str) -> None:
    """`check_name`, and raise `BadInput` where another name differs from this one only in case."""
    check_name(name)
    mine = plain(name)
    for other in listed(home):
        if other != mine and other.casefold() == mine.casefold():
            raise BadInput(
                f"{printable(name)!r} and the name {other!r}, which is there, differ only in case",
                hint="some file systems keep only one of them: choose another name",
            )


def point(home: Path, name: str, target: str) -> None:
    """Let a name point to `kind/id`; one that is there is moved."""
    check_free(home, name)
    home.mkdir(parents=True, exist_ok=True)
    write_whole(home / plain(name), f"{target}\n".encode())


def forget(home: Path, name: str) -> None:
    """Take a name away."""
    for file in (home / name, home / plain(name)):
        file.unlink(missing_ok=True)


def listed(home: Path) -> dict[str, str]:
    """Name to `kind/id`; without names whose file is damaged."""
    return {name: target for name, target in _read(home).items() if target is not None}


def damaged(home: Path) -> list[str]:
    """Names whose file says nothing that could be an artifact."""
    return [name for name, target in _read(home).items() if target is None]


def _read(home: Path) -> dict[str, str | None]:
    try:
        files = sorted(p for p in home.iterdir() if not p.name.startswith(".") and not is_foreign(p.name))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {plain(file.name): _target(file) for file in files}


def _target(file: Path) -> str | None:
    try:
        text = read_bytes(file, SMALL).decode().strip()
    except (OSError, ValueError):
        return None
    return text if _TARGET.fullmatch(text) else None
