"""HDF5 as this tool writes it, and nothing else that HDF5 can be.

The format knows links to other files, data kept in other files, views of other data sets, packed blocks that unfold
to any size, and types of any length. A file of activations has none of them: one data set, in one piece, inside the
file. That is checked before the first number is read, so that no header takes memory or leads elsewhere.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from refusalctl.untrusted import SMALL, Refused, ordinary, parse_object

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CHECKED = (2, 3)  # superblocks of files whose every header has a checksum
HEADER = "refusalctl"  # the attribute that says what the file is


def opened(path: Path) -> Any:
    """The file, open for reading. Raises `Refused` for what this tool does not write, `OSError` for a damaged one."""
    import h5py

    size = ordinary(path)
    with path.open("rb") as content:
        begin = content.read(9)
    if begin[:8] != _SIGNATURE or begin[8:9] not in map(_byte, _CHECKED):
        raise Refused(f"its {size:,} bytes do not begin as a file of activations does")
    return h5py.File(path, "r")


def _byte(number: int) -> bytes:
    return bytes([number])


def header(file: Any) -> dict[str, Any]:
    """What the file says of itself: one text of JSON. Raises `Refused` for anything else, `KeyError` for nothing."""
    import h5py

    if not h5py.h5a.exists(file.id, HEADER.encode()):
        raise KeyError(HEADER)
    attribute = h5py.h5a.open(file.id, HEADER.encode())
    kind = attribute.get_type()
    if attribute.shape != () or not isinstance(kind, h5py.h5t.TypeStringID) or kind.get_size() > SMALL:
        raise Refused("its header is no text")
    text = file.attrs[HEADER]
    if not isinstance(text, str) or len(text) > SMALL:
        raise Refused("its header is no text")
    return parse_object(text)


def dataset(file: Any, name: str, size: int) -> Any:
    """A data set of float32 with four axes, which lies in one piece inside the `size` bytes of the file.

    Raises `Refused` for any other, `KeyError` where there is none.
    """
    import h5py

    if name not in file:
        raise KeyError(name)
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise Refused(f"its {name} is a link, which may lead to another file")
    data = file[name]
    if not isinstance(data, h5py.Dataset):
        raise Refused(f"its {name} is no data set")
    if data.id.get_create_plist().get_external_count():
        raise Refused(f"its {name} lies in another file")
    if data.dtype != "<f4" or len(data.shape) != 4 or 0 in data.shape:
        raise Refused(f"its {name} is no float32 of four axes")
    offset = data.id.get_offset()  # only what lies in one piece has one: no blocks, packing, views or empty data
    if offset is None:
        raise Refused(f"its {name} is not in one piece")
    if offset + 4 * math.prod(data.shape) > size:
        raise Refused(f"its {name} is larger than the file")
    return data
