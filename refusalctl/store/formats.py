"""Payload files: HDF5 activations, safetensors vectors, JSONL rows, JSON records. Read with suspicion.

Every file names its format and version. Bytes repeat: HDF5 datasets are created in sorted order without
times, safetensors carry one metadata entry of canonical JSON (two entries already change order between runs).
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from refusalctl.disk import require_space
from refusalctl.errors import Corrupt, StoreError
from refusalctl.file_errors import explained, first_line, reason, system_reason, what_is_there
from refusalctl.json_types import Json, JsonObject
from refusalctl.records.record import Record
from refusalctl.store import hdf5, vectors
from refusalctl.store.hashing import canonical, digest
from refusalctl.store.manifest import Said
from refusalctl.untrusted import LARGE, Refused, ordinary, parse_json, parse_object, read_bytes, read_lines

if TYPE_CHECKING:
    import torch

VERSION = 1
R = TypeVar("R", bound=Record)
H = TypeVar("H", bound=msgspec.Struct)


def _check(found: Mapping[str, Json], expected: str, path: Path, version: int | None = None) -> None:
    version = VERSION if version is None else version
    if found.get("format") != f"refusalctl.{expected}":
        raise Corrupt(f"{path.name} holds {found.get('format')!r}, expected 'refusalctl.{expected}'")
    if found.get("version") != version:
        raise Corrupt(
            f"{path.name} has format version {found.get('version')}, this refusalctl reads version {version}",
            hint="compute it again, or use the refusalctl that wrote it",
        )


_HINT = "see `refusalctl artifacts verify`; `refusalctl artifacts rm` removes it, so that it is computed again"


def _damaged(path: Path, error: Exception) -> Corrupt:
    where = f"{path.parent.parent.name}/{path.parent.name[:12]}/{path.name}"
    seen = what_is_there(path)
    found = system_reason(error)
    known = None if found is None else reason(found[0])
    if known is not None:
        return Corrupt(f"{where} cannot be read: {known.what}", hint=known.hint)
    why = seen.what if seen is not None else first_line(error)
    return Corrupt(f"{where} cannot be read ({why})", hint=_HINT)


# --- JSON and JSON lines -----------------------------------------------------------------------------


def write_json(path: Path, kind: str, value: Mapping[str, Json]) -> None:
    """One record, canonical so that equal values are equal bytes."""
    _write(path, canonical({"format": f"refusalctl.{kind}", "version": VERSION, **value}))


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """Raises `Corrupt` for a file that is not such a record."""
    try:
        value = parse_object(read_bytes(path, LARGE))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    _check(value, kind, path)
    return value


def write_record(folder: Path, record: Record) -> None:
    """One record into its file of an artifact's folder, canonical so that equal records are equal bytes."""
    header = {"format": f"refusalctl.{record.FORMAT}", "version": record.VERSION}
    _write(folder / record.FILE, canonical(header | record.to_json()))


def read_record(folder: Path, kind: type[R]) -> R:
    """The record of this kind in an artifact's folder. Raises `Corrupt` naming the field that does not fit."""
    path = folder / kind.FILE
    try:
        value = parse_object(read_bytes(path, LARGE))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    _check(value, kind.FORMAT, path, kind.VERSION)
    try:
        return kind.from_json({k: v for k, v in value.items() if k not in ("format", "version")})
    except msgspec.ValidationError as error:
        raise _damaged(path, error) from error


def as_header(path: Path, header: Mapping[str, Json], kind: type[H]) -> H:
    """What a file of vectors or activations says of itself, as a record; what is said beyond that is left out.

    Raises `Corrupt` naming the field that does not fit.
    """
    try:
        return msgspec.convert(header, kind)
    except msgspec.ValidationError as error:
        raise _damaged(path, error) from error


def write_rows(path: Path, rows: Iterable[Mapping[str, Json]]) -> None:
    """JSON lines, one canonical object each."""
    with explained("write", path, kind=StoreError), path.open("wb") as out:
        out.writelines(canonical(row) + b"\n" for row in rows)


def _write(path: Path, content: bytes) -> None:
    with explained("write", path, kind=StoreError):
        path.write_bytes(content)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Raises `Corrupt` for a line that is not a whole object."""
    import jsonlines

    try:
        with jsonlines.Reader(read_lines(path), loads=parse_json) as reader:
            return list(reader.iter(type=dict))
    except (OSError, jsonlines.InvalidLineError, ValueError) as error:
        raise _damaged(path, error) from error


def append_rows(path: Path, rows: Iterable[Mapping[str, Json]], size: int | None = None) -> int:
    """Add lines to an unfinished file, each with its digest: no manifest tells yet whether they rot. They are on the
    disk when this returns. The new size of the file in bytes; raises `StoreError` where it was not `size` before,
    because another process writes to it."""
    lines = b"".join(canonical({"row": row, "sha256": digest(row)}) + b"\n" for row in rows)
    with explained("write", path, kind=StoreError), path.open("ab") as out:
        if size is not None and out.tell() != size:
            raise StoreError(
                f"another process goes on with {path.parent.name[:12]}, which this one did not renew in time",
                hint="run the same command again: it waits for that one, or takes its result",
            )
        out.write(lines)
        out.flush()
        os.fsync(out.fileno())
        return out.tell()


def read_finished_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of an unfinished file up to the first line that is damaged or was cut short; what follows is dropped
    from the file too, and so is computed again."""
    try:
        ordinary(path)
    except Refused:  # a link, whose target is not ours to cut
        path.unlink()
        return []
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []
    rows, end = [], 0
    try:
        for line in read_lines(path):
            row = _whole_row(line)
            if row is None:
                break
            rows.append(row)
            end += len(line)
    except ValueError:  # a line without an end
        pass
    if end < path.stat().st_size:
        os.truncate(path, end)
    return rows


def _whole_row(line: bytes) -> JsonObject | None:
    """What a line holds, if it ends and is as it was written."""
    try:
        told: dict[str, Any] = parse_object(line) if line.endswith(b"\n") else {}
        row: JsonObject = told["row"]
        return row if isinstance(row, dict) and told["sha256"] == digest(row) else None
    except (ValueError, TypeError, KeyError):
        return None


VECTOR_FILES = {
    "directions": "directions.safetensors",
    "selection": "selection.safetensors",
    "subspace": "subspace.safetensors",
    "control_directions": "control_directions.safetensors",
}  # by artifact kind


# --- vectors -----------------------------------------------------------------------------------------


def write_vectors(path: Path, kind: str, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Json]) -> None:
    """Torch tensors in safetensors with one metadata entry. Written by Python: the library's own writer makes files
    that only their owner may read."""
    from safetensors.torch import save

    header = canonical({"format": f"refusalctl.{kind}", "version": VERSION, **about}).decode()
    whole = {name: t.contiguous() for name, t in sorted(tensors.items())}
    _write(path, save(whole, metadata={"refusalctl": header}))


def read_vectors(path: Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors by name, and what the header says. Raises `Corrupt` for a truncated or foreign file."""
    from safetensors import SafetensorError

    try:
        tensors, header = vectors.read(path, kind)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    _check(header, kind, path)
    vectors.check_shapes(tensors, kind, path.name)
    return Said(path.name, tensors), Said(path.name, header)


# --- activations -------------------------------------------------------------------------------------


class Rows(Protocol):
    """An HDF5 dataset that is read as it is asked for."""

    shape: tuple[int, ...]

    def __getitem__(self, where: object, /) -> NDArray[np.float32]: ...


class ActivationShape(NamedTuple):
    n_prompts: int
    n_pos: int
    n_layers: int
    d_model: int


class ActivationWriter:
    """Rows of `resid_pre` written into an open file, in any order, each prompt once.

    A batch is written while the next one is computed; what goes wrong is raised by the next call. `finished` is told
    the prompts of a batch, and the SHA-256 of its rows, when it is on the disk.
    """

    def __init__(
        self, file: io.FileIO, offset: int, shape: ActivationShape, thread: ThreadPoolExecutor, kept: KeptBatches | None
    ) -> None:
        self._file, self._offset, self._shape, self._thread, self._kept = file, offset, shape, thread, kept
        self._missing = set(range(shape.n_prompts))
        for indices in kept.batches if kept is not None else ():
            self._missing.difference_update(indices)
        self._writing: Future[None] | None = None

    def put(self, indices: list[int], rows: NDArray[np.float32]) -> None:
        """`rows` belongs to the writer from now on."""
        self.finish()
        self._writing = self._thread.submit(self._write, indices, rows)

    def finish(self) -> None:
        """Wait for what is being written."""
        if self._writing is not None:
            self._writing.result()

    def _write(self, indices: list[int], rows: NDArray[np.float32]) -> None:
        for index, row in zip(indices, rows):
            if not 0 <= index < self._shape.n_prompts or row.shape != self._shape[1:]:
                raise IndexError(f"row {index} of shape {row.shape} does not belong into {tuple(self._shape)}")
            self._file.seek(self._offset + 4 * index * math.prod(self._shape[1:]))
            _write_all(self._file, np.ascontiguousarray(row, dtype="<f4").tobytes())
            self._missing.discard(index)
        if self._kept is not None:
            os.fsync(self._file.fileno())
            self._kept.finished(indices, rows_digest(rows))

    @property
    def missing(self) -> int:
        return len(self._missing)


class KeptBatches(NamedTuple):
    """Batches of an interrupted file: the prompts of those that are in it, and what is told of each further one, with
    the SHA-256 of its rows, when it is on the disk."""

    batches: Sequence[Sequence[int]]
    finished: Callable[[list[int], str], None]


def rows_digest(rows: NDArray[np.float32]) -> str:
    """SHA-256 of rows as they are written."""
    return hashlib.sha256(np.ascontiguousarray(rows, dtype="<f4").tobytes()).hexdigest()


@contextmanager
def write_activations(
    path: Path, shape: ActivationShape, about: Mapping[str, Json], kept: KeptBatches | None = None
) -> Iterator[ActivationWriter]:
    """Create `resid_pre` [n_prompts, n_pos, n_layers, d_model] float32, and fill it.

    Contiguous on disk, so that bytes do not depend on the order of writing and the file can be memory-mapped. HDF5
    makes the frame of the file, in memory; the rows are written by Python. HDF5 cannot bear a disk that refuses: it
    keeps what it could not write, and the process crashes when it ends (h5py/h5py#914, #1120).

    The last position is the last instruction token; the others are end-of-instruction positions. `kept`: batches that
    the file holds already. Raises `Corrupt` if a prompt was left out, `StoreError` where the disk refuses.
    """
    goes_on = kept is not None and len(kept.batches) > 0
    require_space(path.parent, 4 * math.prod(shape) - (path.stat().st_size if goes_on else 0))
    frame, offset = _frame(shape, about)
    mode = "r+" if goes_on else "w"
    with explained("write", path, kind=StoreError), io.FileIO(path, mode) as file, ThreadPoolExecutor(1) as thread:
        _write_all(file, frame)
        file.truncate(offset + 4 * math.prod(shape))  # HDF5 opens no file that is shorter than it says
        writer = ActivationWriter(file, offset, shape, thread, kept)
        yield writer
        writer.finish()
        if writer.missing:
            raise Corrupt(f"{writer.missing} of {shape.n_prompts} prompts have no activations")
        os.fsync(file.fileno())


def _frame(shape: ActivationShape, about: Mapping[str, Json]) -> tuple[bytes, int]:
    """An HDF5 file up to its data, with which it ends, and where they begin."""
    import h5py

    header = canonical({"format": "refusalctl.activations", "version": VERSION, **about}).decode()
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        place = Path(folder) / "frame.h5"  # sparse: a few kilobytes
        require_space(place.parent, 0)
        with h5py.File(place, "w", libver="v108", track_order=False) as file:
            data = file.create_dataset(
                "resid_pre", shape=shape, dtype="float32", chunks=None, track_times=False, fill_time="never"
            )
            file.attrs["refusalctl"] = header
            if data.size:
                data[0, 0, 0, 0] = 0  # the place of the data is chosen when the first of them is written
            offset = data.id.get_offset() or 0
        if place.stat().st_size != offset + 4 * math.prod(shape):
            raise RuntimeError("HDF5 did not put the data at the end of the file")
        with place.open("rb") as content:
            return content.read(offset), offset


def _memory() -> str | None:
    """A folder that no disk is behind, where the system has one; else where temporary files are."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _write_all(file: io.FileIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


@contextmanager
def open_activations(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The HDF5 dataset, read lazily, and its header. Raises `Corrupt` for a truncated or foreign file."""
    try:
        file = hdf5.opened(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise _damaged(path, error) from error
    with file:
        try:
            header = hdf5.header(file)
            data = hdf5.dataset(file, "resid_pre", path.stat().st_size)
        except (KeyError, ValueError, TypeError, OSError, RuntimeError) as error:
            raise _damaged(path, error) from error
        _check(header, "activations", path)
        yield data, Said(path.name, header)


def map_activations(path: Path) -> NDArray[np.float32]:
    """The dataset as a read-only memory map [n_prompts, n_pos, n_layers, d_model]. Raises what `open_activations` does,
    and `Corrupt` where the file does not hold it in one piece."""
    with open_activations(path) as (data, _header):
        offset, shape = data.id.get_offset(), data.shape
    return np.memmap(path, dtype="<f4", mode="r", offset=offset, shape=shape)


def activation_batches(path: Path, n_pos: int, size: int = 64) -> Iterator[Any]:
    """Torch batches [batch, n_pos, n_layers, d_model] of the first `n_pos` positions, read as needed."""
    import torch

    with open_activations(path) as (data, _header):
        for start in range(0, data.shape[0], size):
            try:
                rows = data[start : start + size, :n_pos]
            except (OSError, RuntimeError) as error:
                raise _damaged(path, error) from error
            yield torch.from_numpy(rows)
