"""What `--json` prints: one document per command. Its schemas are in docs/formats/."""

from __future__ import annotations

from typing import Any

import msgspec


class Printed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One JSON document on stdout, or an entry of one."""


class PrintedResult(Printed, frozen=True):
    """What a step made; several results are printed as a list."""

    kind: str
    id: str
    path: str
    about: dict[str, Any]


class PrintedStep(Printed, frozen=True):
    """A step of `--dry-run`: whether it is done, and with which id."""

    step: str
    about: dict[str, Any]
    done: bool
    id: str | None


class PrintedPlan(Printed, frozen=True):
    """`--dry-run`: every step, and with `transfer` and `run` the cost."""

    plan: tuple[PrintedStep, ...]
    cost: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class PrintedSetting(Printed, frozen=True, rename={"origin": "from"}):
    """`--explain`: a setting, its value, and which of flag, file, environment and default gave it."""

    setting: str
    value: Any
    origin: str


class PrintedReport(Printed, frozen=True):
    """`report`: its page and every file asked for."""

    id: str
    path: str
    files: tuple[str, ...]


class ListedArtifact(Printed, frozen=True):
    """An entry of `artifacts ls`."""

    kind: str
    id: str
    about: dict[str, Any]
    bytes: int
    names: tuple[str, ...]


class PrintedPath(Printed, frozen=True):
    """`artifacts path`."""

    id: str
    path: str


class PrintedName(Printed, frozen=True):
    """`artifacts name`."""

    name: str
    id: str


class Problem(Printed, frozen=True):
    """A file that is not as its manifest says."""

    where: str
    what: str


class Verified(Printed, frozen=True):
    """`artifacts verify`."""

    checked: int
    problems: tuple[Problem, ...]
