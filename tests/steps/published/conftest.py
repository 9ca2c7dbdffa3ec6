"""An empty store for imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.settings import Machine
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(Store(tmp_path / "store"), Machine("tiny", device="cpu"))
