"""Published `.pt` files: `mean_diffs.pt` and `direction*.pt`, through torch's weights-only loader and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refusalctl.errors import DataError


def load(path: Path) -> Any:
    """What the file holds, without running any of it. Raises `DataError` for anything but tensors in containers."""
    import pickle
    import warnings

    import torch

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
    if not found.isfinite().all():
        raise DataError(f"{path.name} holds NaN or infinity, which is no direction")
    return found.detach().float().contiguous().clone()
