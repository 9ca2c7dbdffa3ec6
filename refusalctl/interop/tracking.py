"""Measured figures for MLflow and Weights & Biases, offline unless somebody says otherwise."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from refusalctl.errors import BadInput, FileError

Tracker = Literal["mlflow", "wandb"]
_WANDB_HEAD = 7  # bytes of an empty run's file
TRACKERS: tuple[Tracker, ...] = ("mlflow", "wandb")


@dataclass(frozen=True)
class Figures:
    """One artifact as a run. `metrics` holds measured numbers alone; `params` how they came about, as text."""

    name: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]


def log(tracker: Tracker, figures: Figures, to: str, project: str, *, online: bool = False) -> str:
    """Log one run; its id there. `to`: an MLflow tracking address or folder; for wandb the folder of offline runs.

    Raises `BadInput` where the library is not installed, or nothing was measured.
    """
    if not figures.metrics:
        raise BadInput(f"{figures.name} holds no measured number", hint="log labels, a selection, or a transfer")
    return _mlflow(figures, to, project) if tracker == "mlflow" else _wandb(figures, to, project, online)


def _mlflow(figures: Figures, to: str, project: str) -> str:
    mlflow = _needed("mlflow", "mlflow")
    client = mlflow.MlflowClient(tracking_uri=address(to))
    known = client.get_experiment_by_name(project)
    experiment = known.experiment_id if known is not None else client.create_experiment(project)
    run = client.create_run(experiment, run_name=figures.name, tags=dict(figures.tags))
    identifier: str = run.info.run_id
    for name, value in figures.params.items():
        client.log_param(identifier, name, value)
    for name, number in figures.metrics.items():
        client.log_metric(identifier, name, number)
    client.set_terminated(identifier)
    return identifier


def address(to: str) -> str:
    """A folder becomes an SQLite file in it where MLflow can write one (it needs SQLAlchemy), else plain files, which
    its makers no longer develop."""
    if "://" in to or to.startswith("databricks"):
        return to
    folder = Path(to).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("sqlalchemy") and importlib.util.find_spec("alembic"):
        return f"sqlite:///{folder / 'mlflow.db'}"
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return folder.as_uri()


def _wandb(figures: Figures, to: str, project: str, online: bool) -> str:
    wandb = _needed("wandb", "wandb")
    Path(to).mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=project,
        name=figures.name,
        dir=to,
        config={**figures.params, **figures.tags},
        mode="online" if online else "offline",
        settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
    )
    run.log(dict(figures.metrics))
    identifier: str = run.id
    run.finish()
    if not online:
        _wait_for(Path(run.settings.sync_file))
    return identifier


def _wait_for(file: Path, seconds: float = 60.0) -> None:
    """`finish` of wandb 0.31 returns before its service has written what it was told: wait until more than the file's
    head is there. Raises `FileError` where nothing comes."""
    end = time.monotonic() + seconds
    while not file.is_file() or file.stat().st_size <= _WANDB_HEAD:
        if time.monotonic() > end:
            raise FileError(f"wandb wrote nothing to {file.name} in {seconds:g} seconds", hint="see its logs folder")
        time.sleep(0.05)


def _needed(module: str, extra: str) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is told to anybody who was not named
    os.environ.setdefault("WANDB_DISABLE_CODE", "true")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadInput(f"this needs {module}", hint=f"pip install 'refusalctl[{extra}]'") from error
