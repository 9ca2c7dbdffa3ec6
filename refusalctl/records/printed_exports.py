"""What `--json` prints of exports for other tools."""

from __future__ import annotations

from refusalctl.records.printed import Printed


class PrintedExport(Printed, frozen=True):
    """`artifacts export --format`: the artifacts that went into files of another tool, and these files."""

    format: str
    dry_run: bool
    artifacts: tuple[str, ...]
    files: tuple[str, ...]


class LoggedFigures(Printed, frozen=True):
    """An entry of `artifacts log-to`: the numbers of one artifact, as a run of a tracker of experiments."""

    tracker: str
    artifact: str
    run: str
    numbers: int
