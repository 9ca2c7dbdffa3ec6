"""A disk that refuses the k-th write below a folder, for processes that may not mount a small one.

Everything that this tool writes goes through Python: files that are opened to be written, `os.write`, `os.fsync`, new
folders, renames and links. What a library writes itself would not be seen here; a real file system tells (`disk.run`).
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OPERATIONS = ("fsync", "mkdir", "rename", "replace", "link")  # of `os`, beside the writes themselves


class Disk:
    """Counts the writes below `folder`, and refuses the `fails`-th and all after it with `code`; None: none of them.

    `half`: of a write that is refused the first half is on the disk, as on a real one.
    """

    def __init__(self, folder: Path, code: int, fails: int | None, half: bool = False) -> None:
        self.folder, self.code, self.fails, self.half = str(folder), code, fails, half
        self.writes = 0

    def asked(self, path: object) -> bool:
        """Whether a write to this path is refused now; it counts."""
        if not (isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)):
            return False
        self.writes += 1
        return self.fails is not None and self.writes >= self.fails

    def refused(self, path: object) -> OSError:
        return OSError(self.code, os.strerror(self.code), os.fspath(path) if isinstance(path, os.PathLike) else path)


@contextmanager
def failing(disk: Disk) -> Iterator[Disk]:
    """Everything that Python writes passes the disk, for the block."""
    with _opened(disk), _operations(disk):
        yield disk


@contextmanager
def _opened(disk: Disk) -> Iterator[None]:
    plain, raw = io.open, io.FileIO

    class Raw(raw):  # type: ignore[misc, valid-type]
        def write(self, content: Any, /) -> Any:
            if disk.asked(self.name):
                if disk.half:
                    super().write(bytes(content)[: len(bytes(content)) // 2])
                raise OSError(disk.code, os.strerror(disk.code))  # as the operating system: without a name
            return super().write(content)

    def opened(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **rest: Any) -> Any:
        if not set(mode) & set("wax+") or not isinstance(file, str | os.PathLike):
            return plain(file, mode, buffering, *args, **rest)
        if not os.fspath(file).startswith(disk.folder):
            return plain(file, mode, buffering, *args, **rest)
        names = ("encoding", "errors", "newline")
        given = dict(zip(names, args, strict=False)) | {k: v for k, v in rest.items() if k in names}
        inner = Raw(os.fspath(file), mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return inner
        buffered: Any = io.BufferedRandom(inner) if "+" in mode else io.BufferedWriter(inner)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, **given)

    io.open, builtins.open, io.FileIO = opened, opened, Raw  # type: ignore[misc]
    try:
        yield
    finally:
        io.open, builtins.open, io.FileIO = plain, plain, raw  # type: ignore[misc]


@contextmanager
def _operations(disk: Disk) -> Iterator[None]:
    plain: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in OPERATIONS}

    def of(name: str) -> Callable[..., Any]:
        def operation(first: Any, *args: Any, **rest: Any) -> Any:
            path = (
                _path_of(first)
                if isinstance(first, int)
                else (args[0] if name in ("rename", "replace", "link") else first)
            )
            if disk.asked(path):
                raise disk.refused(path)
            return plain[name](first, *args, **rest)

        return operation

    for name in OPERATIONS:
        setattr(os, name, of(name))
    try:
        yield
    finally:
        for name, operation in plain.items():
            setattr(os, name, operation)


def _path_of(number: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115 - not a path
    except OSError:
        return ""
