"""What the operating system or a library says about a file, as one line: what happened, to which file, what to do.

The one place that knows it. Code that knows a better sentence wraps its work in `explained` (writing, or anything that
only the operating system can refuse) or `reading` (a file that may be damaged too); everything else is caught by the
last net of the command line, which asks `explain`. What is none of these is a bug, and keeps its traceback.

Libraries hide the operating system's reason in their text: HDF5 writes `errno = 28`, safetensors `(os error 28)`.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from refusalctl.errors import FileError, RefusalctlError


class Reason(NamedTuple):
    """`alone`: means the machine even where no file is named; elsewhere it may be a bug of ours."""

    what: str
    hint: str
    alone: bool = False


_SPACE = "free some space and run again; finished work is kept"
_ELSEWHERE = "choose another place, or ask the owner of this one"
_NETWORK = "the network file system has a problem: try again, or use a local folder"
_REASONS = {
    errno.ENOSPC: Reason("the disk is full", _SPACE, True),
    errno.EDQUOT: Reason("the disk quota is used up", _SPACE, True),
    errno.EFBIG: Reason("the file is larger than is allowed here", "see `ulimit -f`, or use another file system", True),
    errno.EROFS: Reason("the file system is read-only", _ELSEWHERE, True),
    errno.EIO: Reason("the disk reports an error", "check the disk or the network file system, then run again", True),
    errno.ESTALE: Reason("the file handle is stale", _NETWORK, True),
    errno.ENOLCK: Reason("the file system has no locks", _NETWORK, True),
    errno.EMFILE: Reason("too many files are open", "raise the limit with `ulimit -n`", True),
    errno.ENFILE: Reason("too many files are open on this machine", "close other programs, or ask its owner", True),
    errno.ENOMEM: Reason("there is not enough memory", "close other programs, or use a smaller batch", True),
    errno.EACCES: Reason("permission denied", _ELSEWHERE),
    errno.EPERM: Reason("the operation is not permitted", _ELSEWHERE),
    errno.ENAMETOOLONG: Reason("the name is too long", "choose a shorter name or folder"),
    errno.ENOENT: Reason("there is no such file or folder", "check the path; something may have removed it meanwhile"),
    errno.ENOTDIR: Reason("a file stands where a folder is needed", "check the path"),
    errno.EEXIST: Reason("something else stands there already", "check the path"),
    errno.EISDIR: Reason("it is a folder, expected a file", "check the path"),
    errno.ENOTEMPTY: Reason("the folder is not empty", "check the path"),
    errno.ELOOP: Reason("its symbolic links run in a circle", "check the path"),
    errno.ETXTBSY: Reason("another program is using it", "try again when that is done"),
    errno.EBUSY: Reason("another program is using it", "try again when that is done"),
    errno.EBADF: Reason("the file is not open", _NETWORK),
    errno.ENOTSUP: Reason("the file system cannot do this", "use another file system"),
    errno.EXDEV: Reason("it would have to move to another file system", "choose a folder on the same file system"),
    errno.EINVAL: Reason("the file system refuses it", "check the name, or use another file system"),
    errno.ENXIO: Reason("it is no ordinary file", "check the path"),
    errno.ENODEV: Reason("the file system cannot do this", "use another file system"),
}  # ConnectionError, TimeoutError and their like are OSErrors too, of the network: their callers explain them
_IN_TEXT = re.compile(r"(?:errno = |os error |\[Errno )(\d+)")

# what libraries raise for bytes that are not what the file should hold, by the module and name of the class, so that
# none of them is imported here
_DAMAGED = {
    ("safetensors._safetensors_rust", "SafetensorError"),
    ("safetensors_rust", "SafetensorError"),
    ("json.decoder", "JSONDecodeError"),
    ("msgspec", "DecodeError"),
    ("msgspec", "ValidationError"),
    ("builtins", "UnicodeDecodeError"),
    ("builtins", "EOFError"),
    ("tomllib", "TOMLDecodeError"),
    ("csv", "Error"),
    ("_csv", "Error"),
    ("zipfile", "BadZipFile"),
    ("zlib", "error"),
    ("gzip", "BadGzipFile"),
    ("_lzma", "LZMAError"),
    ("pyarrow.lib", "ArrowInvalid"),
    ("jsonlines.jsonlines", "InvalidLineError"),
    ("_pickle", "UnpicklingError"),
}
_HDF5 = re.compile(r"\b(?:Unable to|Can't|unable to|Unspecified error)\b")  # h5py: OSError, RuntimeError, KeyError
_TORCH = re.compile(r"PytorchStreamReader|failed finding central directory|invalid magic number")
_POINTER = b"version https://git-lfs"
_LONG = 160


def system_reason(error: BaseException) -> tuple[int, str | None] | None:
    """The errno behind an error and the file that it names; None where the operating system has no part in it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, None if error.filename is None else os.fsdecode(error.filename)
    foreign = isinstance(error, OSError) or is_damage(error)
    found = _IN_TEXT.search(str(error)) if foreign else None
    return (int(found[1]), None) if found else None


def reason(code: int) -> Reason | None:
    """What an errno means to a person; None for those of the network, and others that are no matter of files."""
    return _REASONS.get(code)


def is_damage(error: BaseException) -> bool:
    """Whether a library says that a file does not hold what it should."""
    if any((kind.__module__, kind.__name__) in _DAMAGED for kind in type(error).__mro__):
        return True
    text = str(error)
    if isinstance(error, OSError) and error.errno is None:
        return bool(_HDF5.search(text))
    return isinstance(error, RuntimeError | KeyError) and bool(_HDF5.search(text) or _TORCH.search(text))


def explain(
    error: BaseException,
    *,
    doing: str = "read or write",
    path: Path | str | None = None,
    hint: str | None = None,
    kind: type[RefusalctlError] = FileError,
) -> RefusalctlError | None:
    """The error as one line, None where it is no matter of files (a bug, or something that another place explains).

    `doing` and `path` make `cannot {doing} {path}`; a file that the error itself names is more exact, and wins.
    `hint`: what to do instead of the usual advice. Without a path, only what surely is the machine's fault counts.
    """
    if isinstance(error, MemoryError):
        return kind("there is not enough memory", hint="close other programs, or use smaller batches or fewer prompts")
    found = system_reason(error)
    if found is None:
        return _damaged(error, path, hint, kind) if is_damage(error) and path is not None else _foreign(error, kind)
    code, named = found
    known = reason(code)
    where = named or (None if path is None else str(path))
    if known is None or (where is None and not known.alone):
        return None
    text = known.what if where is None else f"cannot {doing} {printable(where)}: {known.what}"
    return kind(text, hint=hint or known.hint)


def _foreign(error: BaseException, kind: type[RefusalctlError]) -> RefusalctlError | None:
    """What a library says of a file without naming it; only libraries that read nothing but files count."""
    if type(error).__name__ == "SafetensorError" or (isinstance(error, OSError) and is_damage(error)):
        return kind(f"a file cannot be read ({first_line(error)})", hint="it may be damaged or cut short")
    return None


def _damaged(
    error: BaseException, path: Path | str | None, hint: str | None, kind: type[RefusalctlError]
) -> RefusalctlError:
    seen = None if path is None else what_is_there(Path(path))
    if seen is not None:
        return kind(f"{printable(str(path))} {seen.what}", hint=hint or seen.hint)
    text = f"{printable(str(path))} cannot be read ({first_line(error)})"
    return kind(text, hint=hint or "the file is damaged, cut short, or of another kind: get it again")


def what_is_there(path: Path) -> Reason | None:
    """Why a file that cannot be read is none of its kind: empty, a Git LFS pointer, a web page; None for all else."""
    if not path.is_file():  # a pipe in a store from elsewhere would be waited for without end
        return None
    try:
        with path.open("rb") as content:
            start = content.read(512)
    except OSError:
        return None
    if not start:
        return Reason("is empty", "get the file again")
    if start.startswith(_POINTER):
        return Reason("is a Git LFS pointer, not the file itself", "run `git lfs pull` where it came from")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return Reason("is a web page, not the file itself", "download the file itself")
    return None


@contextmanager
def explained(
    doing: str, path: Path | str, *, hint: str | None = None, kind: type[RefusalctlError] = FileError
) -> Iterator[None]:
    """Turn what the operating system says about a file into one line, the cause chained; nothing else is touched."""
    try:
        yield
    except RefusalctlError:
        raise
    except Exception as error:  # looked at, and raised again unless it is the operating system that speaks
        if system_reason(error) is None:
            raise
        told = explain(error, doing=doing, path=path, hint=hint, kind=kind)
        if told is None:
            raise
        raise told from error


@contextmanager
def reading(path: Path | str, *, hint: str | None = None, kind: type[RefusalctlError] = FileError) -> Iterator[None]:
    """As `explained`, for a file that is read: bytes that are not what the file should hold are one line too."""
    try:
        yield
    except RefusalctlError:
        raise
    except Exception as error:  # looked at, and raised again unless a library says that the file is damaged
        told = explain(error, doing="read", path=path, hint=hint, kind=kind)
        if told is None:
            raise
        raise told from error


def first_line(error: BaseException) -> str:
    """What an error says, short: its first line, or its class where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0][:_LONG] if text else type(error).__name__


def printable(text: str) -> str:
    """A name from outside, safe to print on one line: control and unpaired characters as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
