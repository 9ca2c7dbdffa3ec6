"""A file of the user's as bytes and as text: from a path or standard input, unpacked, and decoded without a guess."""

from __future__ import annotations

import codecs
import gzip
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

from refusalctl.errors import BadInput, DataError
from refusalctl.untrusted import LARGE, bounded, whole

STDIN = Path("-")
MOST_BYTES = LARGE  # unpacked; prompts are text, and a small file can unpack to any size
MOST_RATIO, LITTLE = 100, 2**24  # of unpacked to packed bytes, where it matters: texts give 2 to 20
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TEXT = "save it as CSV UTF-8, or as JSON lines"
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", _TEXT),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", _TEXT),
    (b"SQLite format 3", "an SQLite database", _TEXT),
    (b"ARROW1", "an Arrow file", "save it as Parquet, CSV or JSON lines"),
    (b"\x89HDF", "an HDF5 file", _TEXT),
    (b"BZh", "packed with bzip2", "unpack it first"),
    (b"\xfd7zXZ", "packed with xz", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "unpack it first"),
    (b"%PDF", "a PDF", _TEXT),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "run `git lfs pull` where it came from"),
    (b"<!doctype", "a web page, not the data", "download the raw file"),
    (b"<html", "a web page, not the data", "download the raw file"),
    (b"<?xml", "a web page or other XML, not the data", "download the raw file"),
)


class FileBytes(NamedTuple):
    """What a file holds, with the name that complaints call it by, and that name's suffix without `.gz`."""

    name: str
    suffix: str
    content: bytes


def read_bytes(path: Path) -> FileBytes:
    """The bytes of a file, or of standard input for `-`; gzip is unpacked.

    Raises `DataError` for a file that cannot be read, `BadInput` for what is no file of prompts at all.
    """
    name, suffixes = ("stdin", []) if path == STDIN else (path.name, [each.lower() for each in path.suffixes])
    try:
        content = whole(sys.stdin.buffer, MOST_BYTES) if path == STDIN else bounded(path, MOST_BYTES)
    except IsADirectoryError as error:
        raise BadInput(f"{path} is a folder", hint="name one file in it") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise _too_long(name) from error
    if content.startswith(b"\x1f\x8b"):
        content = _unpacked(name, content)
        suffixes = suffixes[:-1] if suffixes[-1:] == [".gz"] else suffixes
    begin = content.removeprefix(codecs.BOM_UTF8)[:1000].lstrip()  # pages begin with blank lines, or with a mark
    for mark, what, hint in _FOREIGN:
        if begin[: len(mark)].lower() == mark.lower():
            raise BadInput(f"{name} is {what}", hint=hint)
    return FileBytes(name, suffixes[-1] if suffixes else "", content)


def _unpacked(name: str, content: bytes) -> bytes:
    import io

    try:
        with gzip.open(io.BytesIO(content)) as packed:
            found = packed.read(min(MOST_BYTES, max(LITTLE, MOST_RATIO * len(content))) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: the gzip data are damaged or cut ({error})", hint="fetch the file again") from error
    if len(found) > MOST_BYTES:
        raise _too_long(name, "unpacks to")
    if len(found) > max(LITTLE, MOST_RATIO * len(content)):
        problem = f"{name} unpacks to more than {MOST_RATIO} times its size, as no texts do"
        raise DataError(problem, hint="unpack it first")
    return found


def _too_long(name: str, has: str = "has") -> DataError:
    return DataError(f"{name} {has} more than {MOST_BYTES // 2**20} MiB", hint="split it")


def decode(file: FileBytes, encoding: str | None = None) -> str:
    """The text of a file: UTF-8, or what its byte order mark or `encoding` says; another one is not guessed.

    Raises `DataError` naming the first row and byte that do not fit, `BadInput` for an unknown encoding.
    """
    said = next((name for mark, name in _MARKS if file.content.startswith(mark)), None)
    chosen = encoding or said or "utf-8"
    if not _is_encoding(chosen):
        raise BadInput(
            f"{chosen[:40]!r} is no encoding of texts", hint="give one such as utf-8, utf-16, cp1252 or cp1251"
        )
    if encoding and said == "utf-8-sig" and codecs.lookup(encoding).name == "utf-8":
        chosen = said
    try:
        text = file.content.decode(chosen)
    except UnicodeError as error:
        raise _undecoded(file, chosen, error) from error
    if encoding is None and said is None and file.content[:4].count(0) in (2, 3):
        kind = "utf-16-le" if file.content[1] == 0 else "utf-16-be"
        raise DataError(f"{file.name} row 1: zero bytes, as in UTF-16", hint=f"pass --encoding {kind}")
    return text.removeprefix("\ufeff")


def _is_encoding(name: str) -> bool:
    try:
        return bool(codecs.lookup(name)._is_text_encoding)
    except (LookupError, ValueError):
        return False


def _undecoded(file: FileBytes, encoding: str, error: UnicodeError) -> DataError:
    start = error.start if isinstance(error, UnicodeDecodeError) else 0
    row = file.content[:start].count(b"\n") + 1
    shown = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8"}.get(encoding, encoding)
    return DataError(
        f"{file.name} row {row}: not {shown} (byte {start})",
        hint="save the file as UTF-8, or say what it is: --encoding cp1252, cp1251, utf-16-le, ...",
    )
