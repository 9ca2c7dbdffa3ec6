"""Published `.pt` files: `mean_diffs.pt` and `direction*.pt`, through torch's weights-only loader and nothing else.

The loader runs no code, but it believes sizes: a record may unfold to any length, and a tensor may claim more elements
than its file holds. Both are compared with the file before a number is read.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

from refusalctl.errors import DataError
from refusalctl.untrusted import LARGE

_AGAIN = "fetch the original, or save the tensor alone with today's torch"


def load(path: Path) -> Any:
    """What the file holds, without running any of it. Raises `DataError` for anything but tensors in containers."""
    import pickle
    import warnings

    import torch

    _check_records(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's guesses about foreign pickles; the error says what matters
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path.name} holds more than tensors and was not opened",
            hint="files that can run code are refused; fetch the original, or save the tensor alone",
        ) from error
    except Exception as error:  # a broken pickle fails in any way, inside torch
        raise DataError(f"{path.name} cannot be read as a tensor file ({type(error).__name__})") from error


def _check_records(path: Path) -> None:
    """Raise `DataError` unless the file is an archive of records as they are: packed ones would unfold, and torch's
    older form makes room by what it says of itself."""
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise DataError(f"{path.name} cannot be read as a tensor file (no archive of torch's)", hint=_AGAIN) from error
    packed = any(each.compress_type != zipfile.ZIP_STORED for each in records)
    if packed or size > LARGE or sum(each.file_size for each in records) > size:
        raise DataError(f"{path.name} unfolds to more than it is, and was not opened", hint=_AGAIN)


def candidates(path: Path) -> Any:
    """`mean_diffs.pt`: [n_pos, n_layers, d_model], as float32. Raises `DataError` for another shape or NaN."""
    return _checked(path, load(path), 3, "[n_pos, n_layers, d_model]")


def direction(path: Path) -> Any:
    """`direction*.pt`: [d_model], as float32; of a list (mainlp writes its best n) the first."""
    found = load(path)
    if isinstance(found, (list, tuple)) and found:
        found = found[0]
    return _checked(path, found, 1, "[d_model]")


def _checked(path: Path, found: Any, axes: int, shape: str) -> Any:
    import torch

    if not isinstance(found, torch.Tensor) or found.ndim != axes or not found.is_floating_point() or not found.numel():
        what = f"a tensor {list(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise DataError(f"{path.name} holds {what}, expected a floating-point tensor {shape}")
    if found.layout != torch.strided or found.device.type != "cpu" or found.is_quantized:
        raise DataError(f"{path.name} holds a tensor without plain numbers, expected {shape}", hint=_AGAIN)
    size = path.stat().st_size
    if found.numel() * found.element_size() > size or found.untyped_storage().nbytes() > size:
        raise DataError(f"{path.name} claims {found.numel():,} numbers, more than its {size:,} bytes hold", hint=_AGAIN)
    if not found.isfinite().all():
        raise DataError(f"{path.name} holds NaN or infinity, which is no direction")
    return found.detach().float().contiguous().clone()
