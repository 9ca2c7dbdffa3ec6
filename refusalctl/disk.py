"""Files as a disk shared by people and machines needs them: whole or not there, readable by the group, on the disk
before a name points to them; what file managers leave behind; and paths as people write them.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import resource

from refusalctl.errors import BadInput, FileError
from refusalctl.file_errors import explained, printable
from refusalctl.locks import locked

# left by desktops, editors, notebooks, network file systems and programs that synchronise folders
_FOREIGN = re.compile(
    r"\.DS_Store|\._.+|\.Spotlight-V100|\.Trashes|\.fseventsd|\.TemporaryItems|\.AppleDouble|\.localized|Icon\r?"
    r"|Thumbs\.db(:encryptable)?|ehthumbs(_vista)?\.db|desktop\.ini|\$RECYCLE\.BIN|System Volume Information|~\$.+"
    r"|\.ipynb_checkpoints|__pycache__|.+-checkpoint\.\w+|lost\+found|\.nfs[0-9a-f]+|\.fuse_hidden.+|\.Trash-\d+"
    r"|\.directory|\.dropbox(\.(attr|cache))?|\.sync|\.st(folder|ignore|versions)|\.syncthing\..+|\.snapshots?"
    r"|@eaDir|#recycle|\.git(ignore|attributes|keep)|\.gitkeep|\.keep|.*\.sw[a-p]|.*~|#.*#|.+\.(orig|bak|tmp|part)"
    r"|.*([Cc]onflicted copy|sync-conflict|\(conflict\)|case conflict| \(\d+\)(\.\w+)?| copy( \d+)?(\.\w+)?$).*",
    re.DOTALL,
)
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EROFS}
_LEAST = 1 << 20  # bytes that a file system keeps for names and folders, whatever it says is free


def is_foreign(name: str) -> bool:
    """Whether a file or folder of this name was surely made by another program: it is passed over, never read."""
    return _FOREIGN.fullmatch(name) is not None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or replace it, by one rename: a reader sees the old content or the new, at any kill."""
    with whole(path) as draft:
        draft.write_bytes(content)


@contextmanager
def whole(path: Path, draft: Path | None = None) -> Iterator[Path]:
    """A draft beside `path`, or where it is given, to write to; it takes its place when the block ends well, and is
    gone otherwise."""
    draft = draft or path.with_name(f".{uuid.uuid4().hex[:16]}.draft")
    try:
        yield draft
        sync(draft)
        draft.replace(path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def make_durable(folder: Path) -> None:
    """Create a folder with what is above it; each is on the disk, by its name, when this returns."""
    missing = list[Path]()
    while not folder.is_dir():
        if folder.exists():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(folder))
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync(each.parent)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk; a disk that is full says so here at last.

    File systems that cannot do this for folders, or for files of others, are left alone.
    """
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in _NO_SYNC:
            return
        raise
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(number)


def require_space(folder: Path, size: int) -> None:
    """Raise `FileError` where a file of this many bytes surely does not fit. Quotas are not seen here."""
    largest = _largest_file()
    if largest is not None and size > largest:
        raise FileError(
            f"a file of {size / 1e9:.3f} GB is needed in {printable(str(folder))}, larger than is allowed here",
            hint=f"see `ulimit -f`: files of at most {largest / 1e9:.3f} GB are allowed",
        )
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return
    if size + _LEAST > free:
        raise FileError(
            f"the disk is full: {printable(str(folder))} needs {size / 1e9:.2f} GB and has {free / 1e9:.2f} GB",
            hint="free some space and run again; finished work is kept",
        )


def free_words(folder: Path) -> str:
    """` (12,288 bytes are free)`: what is left where a folder lies, or would lie; empty where that cannot be told."""
    for place in (folder, *folder.parents):
        with suppress(OSError):
            return f" ({shutil.disk_usage(place).free:,} bytes are free)"
    return ""


def _largest_file() -> int | None:
    """The largest file that this process may write; None where there is no limit."""
    if sys.platform == "win32":
        return None
    soft, _hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft


def remove_tree(folder: Path) -> None:
    """Delete a folder or a file; what is gone already, or cannot be deleted, is left."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        with suppress(OSError):
            folder.unlink(missing_ok=True)


def gigabytes(size: int) -> str:
    """`3.2 GB`, of 10^9 bytes each."""
    return f"{size / 1e9:.1f} GB"


def tree_size(folder: Path) -> int:
    """Bytes of all files in a folder, or of a file; what is gone meanwhile counts nothing."""
    total = 0
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            total += path.lstat().st_size if not path.is_dir() else 0
    return total


def given_path(text: str | Path, what: str) -> Path:
    """A path as a person wrote it: `~` and `$VARIABLE` mean what they mean in a shell, wherever it was written.

    `what` names the option. Raises `BadInput` for an empty path, a variable that is not set, and an unknown user.
    """
    raw = os.fspath(text)
    if not raw.strip():
        raise BadInput(f"{what} is empty", hint="give a path, or leave it out; `.` is the folder you are in")
    if "\0" in raw:
        raise BadInput(f"{what} {printable(raw)!r} holds a null character", hint="give a path")
    if Path(raw).exists():  # a folder that really is called so
        return Path(raw)
    found = os.path.expanduser(os.path.expandvars(raw))  # noqa: PTH111 - of text: pathlib raises for unknown users
    unset = re.search(r"\$(\w+|\{\w+\})", found)
    if unset:
        problem = f"{what} {printable(raw)!r} names the variable {unset[0]}, which is not set"
        raise BadInput(problem, hint="set it, or write the path out")
    if re.match(r"~[^/\\]*([/\\]|$)", found):
        problem = f"{what} {printable(raw)!r} names a user that is not known here"
        raise BadInput(problem, hint=f"write ./{printable(raw)} for a folder of that name")
    return Path(found)


def given_folder(text: str, what: str) -> Path | None:
    """The folder that a text names as `given_path` reads it, in full; None where there is none: it may be a hub id."""
    found = given_path(text, what)
    return found.resolve() if found.is_dir() else None


def make_folder(folder: Path, what: str) -> None:
    """Create a folder with what is above it, with modes by the umask. Raises `FileError`."""
    with explained(f"create {what}", folder):
        folder.mkdir(parents=True, exist_ok=True)


def share(folder: Path) -> None:
    """Give every file below a folder the mode that a new file has here: libraries write theirs for their owner alone,
    and colleagues of a shared folder could not read them."""
    with _mode(folder) as mode:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_mode & mode != mode:
                path.chmod(path.stat().st_mode | mode)


@contextmanager
def _mode(folder: Path) -> Iterator[int]:
    """The mode of a new file, which the umask of this process gives; asking for the umask would change it."""
    probe = folder / f".{uuid.uuid4().hex[:16]}.draft"
    probe.touch()
    try:
        yield probe.stat().st_mode & 0o777
    finally:
        probe.unlink(missing_ok=True)


def build_folder(folder: Path, mark: str, fill: Callable[[Path], None], hint: str) -> Path:
    """A folder of a cache: there whole, or made by `fill` in a room beside it and moved into place.

    `mark`: the file that says it is whole. Raises `FileError`, with `hint`, where the cache cannot be written.
    """
    if (folder / mark).is_file():
        return folder
    with explained("write to the cache", folder.parent, hint=hint):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f"{folder.name}.lock")):
            if not (folder / mark).is_file():
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as room:
                    made = Path(room) / "made"
                    made.mkdir()
                    fill(made)
                    share(made)
                    remove_tree(folder)  # without its mark: an interrupted copy
                    made.rename(folder)
                    sync(folder.parent)
    return folder
