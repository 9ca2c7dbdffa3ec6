"""Files that are whole by their format and hostile by what they hold: HDF5, safetensors, torch and gzip."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HEADER = '{"format":"refusalctl.activations","positions":[-1],"prompt_ids":["a"],"suffix_tokens":["a"],"version":1}'


def hdf5(path: Path, random_: random.Random, libver: str | None = None) -> str:
    """Write one, in a version of the format; its kind."""
    import h5py

    kind = random_.choice(sorted(_HDF5))
    if path.exists():
        path.unlink()
    libver = libver or random_.choice(("earliest", "v108", "latest"))
    with h5py.File(path, "w", libver=libver) as file:
        if kind != "no header":
            file.attrs["refusalctl"] = HEADER
        _HDF5[kind](file, path)
    return kind


def _external(file: Any, path: Path) -> None:
    file.create_dataset("resid_pre", (1, 1, 1, 1), "f4", external=[("/etc/passwd", 0, 4)])
    del path


def _virtual(file: Any, path: Path) -> None:
    import h5py

    layout = h5py.VirtualLayout((4, 1, 1, 8), "f4")
    layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "resid_pre", (4, 1, 1, 8))
    file.create_virtual_dataset("resid_pre", layout)


def _linked(target: Callable[[Any], Any]) -> Callable[[Any, Path], None]:
    def make(file: Any, _path: Path) -> None:
        import h5py

        file["resid_pre"] = target(h5py)

    return make


def _made(shape: Any, dtype: Any = "f4", **settings: Any) -> Callable[[Any, Path], None]:
    def make(file: Any, _path: Path) -> None:
        import h5py

        kinds = {"vlen": h5py.string_dtype(), "reference": h5py.ref_dtype, "rows": h5py.vlen_dtype("f4")}
        file.create_dataset(
            "resid_pre", shape, kinds.get(dtype, dtype) if isinstance(dtype, str) else dtype, **settings
        )

    return make


def _attribute(value: Callable[[], Any]) -> Callable[[Any, Path], None]:
    def make(file: Any, _path: Path) -> None:
        file.create_dataset("resid_pre", (1, 1, 1, 4), "f4")
        file.attrs["refusalctl"] = value()

    return make


def _numbers() -> Any:
    import numpy as np

    return np.zeros((100, 50), "f4")


_HUGE = (1 << 20, 1 << 10, 1 << 10, 1 << 10)
_HDF5: dict[str, Callable[[Any, Path], None]] = {
    "data in another file": _external,
    "view of another file": _virtual,
    "link to another file": _linked(lambda h5py: h5py.ExternalLink("/etc/passwd", "/x")),
    "link to itself": _linked(lambda h5py: h5py.SoftLink("/resid_pre")),
    "a group": lambda file, _path: file.create_group("resid_pre"),
    "packed bomb": _made(_HUGE, chunks=(1, 1, 64, 1024), compression="gzip"),
    "packed": _made((4, 1, 1, 8), chunks=True, compression="gzip"),
    "never written": _made(_HUGE),
    "growing": _made((1, 1, 1, 1), maxshape=(None, 1, 1, 1)),
    "texts": _made((4, 1, 1, 8), "vlen"),
    "references": _made((4, 1, 1, 8), "reference"),
    "rows of any length": _made((4, 1, 1, 8), "rows"),
    "doubles": _made((4, 1, 1, 8), "f8"),
    "big-endian": _made((4, 1, 1, 8), ">f4"),
    "records": _made((4, 1, 1, 8), [("a", "f4"), ("b", "S1000")]),
    "opaque": _made((4, 1, 1, 8), "V100000"),
    "one axis": _made((4,)),
    "no axis": _made(()),
    "nothing": _made((0, 1, 1, 8)),
    "32 axes": _made((1,) * 32),
    "no data set": lambda _file, _path: None,
    "no header": _made((1, 1, 1, 4)),
    "a header of numbers": _attribute(_numbers),
    "a header of one number": _attribute(lambda: 7),
    "a deep header": _attribute(lambda: "[" * 30_000),
    "a header with NaN": _attribute(lambda: HEADER.replace("[-1]", "[NaN]")),
    "a header that is none": _attribute(lambda: "\x1b[31m"),
    "a header of bytes": _attribute(lambda: b"\xff\xfe"),
}


def safetensors(path: Path, random_: random.Random) -> str:
    """Write one; its kind."""
    kind = random_.choice(sorted(_SAFETENSORS))
    header, data = _SAFETENSORS[kind]
    text = header.encode()
    length = struct.pack("<Q", len(text)) if kind != "a header of any length" else struct.pack("<Q", 1 << 40)
    path.write_bytes(length + text + data)
    return kind


def _tensors(tensors: Any, about: str | None = None) -> str:
    said = about or '{"format":"refusalctl.selection","layer":0,"pos":-1,"version":1}'
    return json.dumps({"__metadata__": {"refusalctl": said}, **tensors})


def _one(dtype: str, shape: list[int], end: int, name: str = "direction", begin: int = 0) -> Any:
    return {name: {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}


_SAFETENSORS: dict[str, tuple[str, bytes]] = {
    "a header of any length": ("{}", b""),
    "beyond the end": (_tensors(_one("F32", [1 << 30], 1 << 32)), b"\0" * 16),
    "overlapping": (_tensors(_one("F32", [4], 16) | _one("F32", [4], 16, "mean_harmless")), b"\0" * 16),
    "backwards": (_tensors(_one("F32", [4], 0, begin=16)), b"\0" * 16),
    "shape and bytes differ": (_tensors(_one("F32", [1 << 40], 16)), b"\0" * 16),
    "product overflows": (_tensors(_one("F32", [1 << 32, 1 << 32, 1 << 32], 16)), b"\0" * 16),
    "empty and huge": (_tensors(_one("F32", [0, 1 << 62], 0)), b""),
    "a scalar": (_tensors(_one("F32", [], 4)), b"\0" * 4),
    "whole numbers": (_tensors(_one("I64", [2], 16)), b"\0" * 16),
    "booleans": (_tensors(_one("BOOL", [16], 16)), b"\0" * 16),
    "eight bits": (_tensors(_one("F8_E4M3", [16], 16)), b"\0" * 16),
    "another type": (_tensors(_one("X9", [16], 16)), b"\0" * 16),
    "another name": (_tensors(_one("F32", [4], 16, "\x1b[31m")), b"\0" * 16),
    "two axes": (_tensors(_one("F32", [2, 2], 16)), b"\0" * 16),
    "many axes": (_tensors(_one("F32", [1] * 60 + [4], 16)), b"\0" * 16),
    "NaN": (_tensors(_one("F32", [4], 16)), struct.pack("<4f", *[float("nan")] * 4)),
    "a deep header": ("[" * 100_000, b""),
    "deep words": (_tensors(_one("F32", [4], 16), "[" * 50_000), b"\0" * 16),
    "words of another type": (_tensors(_one("F32", [4], 16), "[1]"), b"\0" * 16),
    "no place": (_tensors(_one("F32", [4], 16), '{"format":"refusalctl.selection","version":1}'), b"\0" * 16),
    "a place that is none": (
        _tensors(_one("F32", [4], 16), '{"format":"refusalctl.selection","version":1,"pos":"x","layer":[1e99]}'),
        b"\0" * 16,
    ),
    "twice": (_tensors({})[:-1] + ',"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":1}', b"\0" * 4),
}


def torch_file(path: Path, random_: random.Random) -> str:
    """Write one; its kind."""
    import torch

    kind = random_.choice(
        ("stride zero", "sparse", "meta", "old form", "code", "packed", "nested", "a number", "huge list")
    )
    value: Any = torch.zeros(1).expand(1 << 20, 1 << 20, 4)
    if kind == "sparse":
        value = torch.zeros(1, 1, 1).to_sparse()
    elif kind == "meta":
        value = torch.zeros((1 << 20, 1 << 20, 4), device="meta")
    elif kind == "nested":
        value = []
        for _ in range(2000):
            value = [value]
    elif kind == "a number":
        value = 7
    elif kind == "huge list":
        value = [torch.zeros(4)] * 1000
    elif kind == "code":
        value = _Code()
    elif kind in ("old form", "packed"):
        value = torch.zeros(2, 3, 4)
    content = io.BytesIO()
    torch.save(value, content, _use_new_zipfile_serialization=kind != "old form")
    path.write_bytes(_packed(content.getvalue()) if kind == "packed" else content.getvalue())
    return kind


class _Code:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, ("touch unpickled-here",)


def _packed(content: bytes) -> bytes:
    """The same archive with a record that unfolds to a gigabyte."""
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name.endswith("data/0"):
                with new.open(name, "w") as out:
                    for _ in range(1100):
                        out.write(bytes(1 << 20))
            else:
                new.writestr(name, old.read(name))
    return found.getvalue()


def gzip_bomb(begin: bytes) -> bytes:
    """A few kilobytes that unfold to a gigabyte."""
    found = io.BytesIO()
    with gzip.GzipFile(fileobj=found, mode="wb") as out:
        out.write(begin)
        for _ in range(1000):
            out.write(b"," * (1 << 20))
    return found.getvalue()
