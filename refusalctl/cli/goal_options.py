"""Options of commands that work through goals: which of them, what a failure does, and on which machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

PANEL = "Parts of the work, and many machines"


@dataclass(frozen=True)
class GoalOptions:
    """What was asked for."""

    only: list[str] | None = None
    only_langs: str | None = None
    list_goals: bool = False
    fail_fast: bool = False
    executor: str = "process"
    workers: int | None = None
    per_worker: str | None = None

    @property
    def is_part(self) -> bool:
        """Whether only some goals are wanted, and nothing is put together."""
        return bool(self.only) or self.only_langs is not None


def _option(flag: str, told: str, **more: Any) -> Any:
    return typer.Option(flag, help=told, rich_help_panel=PANEL, **more)


GOAL_OPTIONS: dict[str, tuple[Any, Any]] = {
    "only": (
        Annotated[
            list[str] | None,
            _option(
                "--only",
                "Compute only goals whose name fits, such as 'select:*' or 'labels:*:de', and put nothing together. "
                "Repeatable.",
                metavar="<pattern>",
            ),
        ],
        None,
    ),
    "only_langs": (
        Annotated[
            str | None,
            _option(
                "--only-langs",
                "Compute only goals about these languages, of pairs the target: a task of an array takes its part.",
                metavar="<languages>",
            ),
        ],
        None,
    ),
    "list_goals": (
        Annotated[bool, _option("--list-goals", "Show the goals, which are done, and what each needs; and stop.")],
        False,
    ),
    "fail_fast": (
        Annotated[
            bool,
            _option(
                "--fail-fast/--keep-going",
                "Stop at the first goal that fails, or go on with those that do not need it and tell at the end. "
                "Either way the exit code is 1 and no matrix is made.",
            ),
        ],
        False,
    ),
    "executor": (
        Annotated[
            str,
            _option(
                "--executor",
                "Where goals are computed: process (this one), or ray (the cluster of RAY_ADDRESS, or one started "
                "here). Recipes are the same, and so are results where device, threads, batch size and libraries are.",
            ),
        ],
        "process",
    ),
    "workers": (
        Annotated[
            int | None,
            _option("--workers", "With ray: workers, each with the model in memory; by default what fits.", min=1),
        ],
        None,
    ),
    "per_worker": (
        Annotated[
            str | None,
            _option(
                "--per-worker",
                "With ray: what each worker gets, such as cpus=4,gpus=1; by default a GPU where there are some.",
                metavar="<resources>",
            ),
        ],
        None,
    ),
}
