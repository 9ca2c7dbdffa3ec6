"""Seeded changes of files: of their bytes, of the values in their JSON, and of what lies in their place."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

# texts that would be an attack where a text is printed, drawn, put into a page, or taken for a path
HOSTILE = (
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[31m",
    "\x9b31m",
    "a\u202edcba\u2066",
    "line\rover",
    "[/red][link=x]",
    "[bold",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "../../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "..",
    "\x00",
    "C:\\x",
    "$x^2$ \\input{/etc/passwd} %",
    "=HYPERLINK(1)",
    "x" * 5000,
    "%s%n{0}",
    "\u2028\u2029",
    "nan",
    "1e999",
    "\U000e0041",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    -(2**31),
    2**53,
    2**63,
    2**64,
    10**30,
    1e308,
    -0.5,
    "",
    [],
    {},
    [[]],
    {"a": {}},
)
# JSON that Python's own writer does not write
RAW = (
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 5000,
    '"\\ud800"',
    "[" * 100_000,
    "[" * 500 + "]" * 500,
    '{"a":' * 900 + "1" + "}" * 900,
    '"' + "\\u202e" * 50 + '"',
    "-",
    "01",
    "'x'",
)
_BYTES: tuple[bytes, ...] = (
    b"\x00",
    b"\xff" * 8,
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80" + b"\x00" * 7,
    b"\r\n",
)
_BYTES += (b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"[" * 3000, b'"', b"{", b"}", b",", b"\n", b"\t")


def of_bytes(random_: random.Random, content: bytes) -> bytes:
    """One to four small changes: flips, cuts, copies of parts, and bytes that mean something to some reader."""
    found = bytearray(content)
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        place, width = random_.randint(0, len(found)), random_.choice((1, 2, 4, 8, 64, 1024))
        how = random_.randrange(7)
        if how == 0 and found:
            found[place % len(found)] ^= 1 << random_.randrange(8)
        elif how == 1:
            del found[place:]
        elif how == 2:
            del found[place : place + width]
        elif how == 3:
            found[place:place] = found[place : place + width] * random_.choice((1, 2, 50))
        elif how == 4:
            sign = random_.choice((*_BYTES, random_.choice(HOSTILE).encode()))
            found[place : place + (len(sign) if random_.random() < 0.5 else 0)] = sign
        elif how == 5:
            number = random_.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1))
            found[place : place + 8] = number.to_bytes(8, random_.choice(("little", "big")))
        else:
            found[place : place + width] = random_.randbytes(width)
    return bytes(found)


def of_json(random_: random.Random, content: bytes) -> bytes:
    """One to three values of a document, or of one of its lines, become something else."""
    lines = content.split(b"\n")
    at = random_.randrange(len(lines)) if len(lines) > 2 else 0
    document = lines[at] if len(lines) > 2 else content
    try:
        value: Any = json.loads(document)
    except ValueError:
        return of_bytes(random_, content)
    marks: dict[str, str] = {}
    for number in range(random_.choice((1, 1, 2, 3))):
        value = _changed(random_, value, marks, number)
    text = json.dumps(value, ensure_ascii=random_.random() < 0.5, separators=(",", ":"), sort_keys=True)
    for mark, raw in marks.items():
        text = text.replace(f'"{mark}"', raw)
    written = text.encode("utf-8", "surrogatepass")
    return b"\n".join([*lines[:at], written, *lines[at + 1 :]]) if len(lines) > 2 else written


def _changed(random_: random.Random, value: Any, marks: dict[str, str], number: int) -> Any:
    """The value with one of its parts replaced, removed, renamed or doubled."""
    if isinstance(value, dict) and value and random_.random() < 0.9:
        key = random_.choice(sorted(value, key=str))
        how = random_.random()
        if how < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.2:
            return {(random_.choice(HOSTILE) if k == key else k): v for k, v in value.items()}
        return {**value, key: _changed(random_, value[key], marks, number)}
    if isinstance(value, list) and value and random_.random() < 0.9:
        at = random_.randrange(len(value))
        how = random_.random()
        if how < 0.1:
            return value[:at] + value[at + 1 :]
        if how < 0.15:
            return value * 3
        return [*value[:at], _changed(random_, value[at], marks, number), *value[at + 1 :]]
    if random_.random() < 0.2:
        mark = f"raw-value-{number}"
        marks[mark] = random_.choice(RAW)
        return mark
    return random_.choice((*VALUES, *HOSTILE, *HOSTILE))


def of_place(random_: random.Random, path: Path, target: Path) -> None:
    """Something else stands where a file was: a link out to `target`, a pipe, a folder, a hole of a terabyte."""
    path.unlink()
    how = random_.randrange(7)
    if how == 0:
        path.symlink_to(target)
    elif how == 1:
        path.symlink_to("/dev/zero")
    elif how == 2:
        path.symlink_to(path.name)
    elif how == 3:
        os.mkfifo(path)
    elif how == 4:
        path.mkdir()
    elif how == 5:
        path.touch()
        os.truncate(path, 1 << 40)
    else:
        path.symlink_to("..")


def any_of(random_: random.Random, name: str, content: bytes) -> bytes:
    """A change that fits the file: of values where it is JSON, else of bytes."""
    if name.endswith((".json", ".jsonl")) and random_.random() < 0.7:
        return of_json(random_, content)
    return of_bytes(random_, content)
