"""What tests of the page and of the tables share."""

from __future__ import annotations

import pytest

from refusalctl.report import report


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without their figures, where only words matter."""
    monkeypatch.setattr(report, "_draw", lambda _job, rows: {name: "" for name, *_ in report._figures(rows)})
