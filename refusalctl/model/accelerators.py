"""Whether a machine has an accelerator, as far as that shows without loading torch."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path


def no_accelerator() -> bool:
    """Whether this machine surely has none: Linux without a GPU's device files, or a CPU build of torch."""
    if version("torch").endswith("+cpu"):
        return True
    devices = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/dri")
    return sys.platform == "linux" and not any(Path(device).exists() for device in devices)
