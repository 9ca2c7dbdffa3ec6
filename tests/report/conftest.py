"""What tests of the page and of the tables share."""

from __future__ import annotations

import pytest

from refusalctl.report import make


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without their figures, where only words matter."""
    monkeypatch.setattr(make, "_draw", lambda _job, rows: {name: "" for name, *_ in make._figures(rows)})
