"""Files from outside (a store that somebody sent, a published run, one's own data): nothing is believed unchecked.

The one place that opens them and reads their JSON: an ordinary file, neither a link that may lead elsewhere nor a
device or pipe that never ends; no longer than such a file can honestly be; JSON that is not nested beyond reason, whose
numbers are numbers of this machine and whose texts can be written again. What is none of that is a `Refused`, and never
a `RecursionError`, an `OverflowError` or a process without memory.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from refusalctl.json_types import Json

SMALL = 1 << 16  # bytes of a name, a mark, a lock
DOCUMENT = 1 << 24  # of a manifest, a run record, an experiment file
LARGE = 1 << 28  # of a published run, a table of scores, a person's file of prompts
LINE = 1 << 24  # of one row: a long prompt, its answer and its tokens
DEEPEST = 64  # JSON inside JSON; ours has about eight
_PIECE = 1 << 16
_WHOLE = 1 << 63
# only where one of these occurs is a second look needed: half characters, numbers that no machine word or float holds
_ODD = re.compile(r"\\u[dD][89a-fA-F]|\d{19}|[eE]\+?\d{3}")
_PLAIN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Refused(ValueError):
    """What an honest file of its kind would never hold or be, in words."""


def ordinary(path: Path) -> int:
    """Bytes of an ordinary file. Raises `Refused` for a link, a device or a pipe, `OSError` where nothing is there."""
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode):
        raise _strange(facts.st_mode)
    return facts.st_size


def opener(path: str, flags: int) -> int:
    """For `open`: what is a link is not followed, and a pipe is not waited for."""
    return os.open(path, flags | _PLAIN)


def own_folder(path: Path) -> bool:
    """Whether a real folder is there: one that is a link belongs to another place."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def read_bytes(path: Path, most: int = DOCUMENT) -> bytes:
    """What an ordinary file holds. Raises `Refused` for another kind of file or a longer one, else `OSError`."""
    ordinary(path)
    number = os.open(path, _PLAIN)
    with os.fdopen(number, "rb") as content:
        facts = os.fstat(number)  # of what was really opened
        if not stat.S_ISREG(facts.st_mode):
            raise _strange(facts.st_mode)
        if facts.st_size > most:
            raise Refused(f"it is longer than {most:,} bytes")
        return whole(content, most)


def bounded(path: Path, most: int) -> bytes:
    """What a file that a person named holds; a link or a pipe is what they meant. Raises `Refused` for a longer one."""
    with path.open("rb") as content:
        return whole(content, most)


def whole(content: BinaryIO, most: int) -> bytes:
    """All that is left of an open file or a pipe, in pieces: what is asked for at once, Python makes room for at once.
    Raises `Refused` where that is more than `most` bytes."""
    found = bytearray()
    while piece := content.read(_PIECE):
        found += piece
        if len(found) > most:
            raise Refused(f"it is longer than {most:,} bytes")
    return bytes(found)


def read_lines(path: Path, most: int = LINE, *, follow: bool = False) -> Iterator[bytes]:
    """The lines of an ordinary file, each whole. Raises `Refused` for one that is longer than `most` bytes.

    `follow`: a link is what its owner means, in a person's own folder.
    """
    ordinary(path.resolve() if follow else path)
    with open(path, "rb", opener=None if follow else opener) as content:
        for number in range(1, 1 << 62):
            line = content.readline(most + 1)
            if len(line) > most:
                raise Refused(f"line {number} is longer than {most:,} bytes")
            if not line:
                return
            yield line


def _strange(mode: int) -> OSError | Refused:
    if stat.S_ISDIR(mode):
        return IsADirectoryError(21, "it is a folder")
    what = "a symbolic link, which may lead anywhere" if stat.S_ISLNK(mode) else "no ordinary file"
    return Refused(f"it is {what}")


# --- JSON --------------------------------------------------------------------------------------------


def parse_json(
    content: bytes | str,
    *,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    nan: bool = False,
    halves: bool = False,
) -> Json:
    """The value of one JSON document. Raises `ValueError`, and nothing else, for what is none, or a `Refused`.

    `pairs` makes objects of their keys and values; `nan`: not-a-number, infinities and whole numbers beyond 64 bits are
    numbers, as published files and models' settings write them; `halves`: texts may hold half a character (a lone
    surrogate), for callers that say where it is.
    """
    text = content if isinstance(content, str) else content.decode(json.detect_encoding(content))
    odd = _ODD.search(text) is not None
    hooks: dict[str, Any] = {} if nan else {"parse_constant": _no_number}
    if odd:
        hooks |= {"parse_int": _floatable} if nan else {"parse_int": _whole, "parse_float": _finite}
    try:
        value: Json = json.loads(text, object_pairs_hook=pairs, **hooks)
    except RecursionError as error:
        raise Refused(f"it is nested too deeply, more than {DEEPEST} levels") from error
    _check_depth(value)
    if odd and not halves:
        _check_texts(value)
    return value


def parse_object(content: bytes | str) -> dict[str, Any]:
    """`parse_json` of what must be an object."""
    value = parse_json(content)
    if not isinstance(value, dict):
        raise Refused(f"it holds {type(value).__name__}, expected an object")
    return value


def _check_depth(value: Json) -> None:
    """Level by level, without recursion: what is written or walked later must not run out of stack."""
    level: list[Any] = [value]
    for _ in range(DEEPEST + 1):
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, list | dict))
        level = [each for many in inner for each in many if isinstance(each, list | dict)]
        if not level:
            return
    raise Refused(f"it is nested too deeply, more than {DEEPEST} levels")


def _check_texts(value: Json) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Refused("a text in it holds half a character (a lone surrogate)") from error


def _whole(digits: str) -> int:
    value = int(digits) if len(digits) < 40 else _WHOLE
    if not -_WHOLE <= value < _WHOLE:
        raise Refused("it holds a whole number of more than 64 bits")
    return value


def _floatable(digits: str) -> int:
    if len(digits) > 300:  # tokenizers say 10^30 for a length without limit
        raise Refused("it holds a whole number of more than 300 digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise Refused("it holds a number beyond every limit")
    return value


def _no_number(name: str) -> NoReturn:
    raise Refused(f"it holds {name}, which is no number")
