"""What `--json` prints: one document per command. Its schemas are in docs/formats/."""

from __future__ import annotations

from typing import Any

import msgspec


class Printed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One JSON document on stdout, or an entry of one."""


class PrintedError(Printed, frozen=True):
    """What a command with `--json` says on stderr, as its last line, when it fails; stdout stays empty.

    `error` is the kind of failure, a class of `refusalctl.errors` or `Usage`, `Interrupted`, `Terminated`; `exit_code`
    is that of the command.
    """

    error: str
    message: str
    hint: str | None
    exit_code: int


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
    """`artifacts verify`. `foreign`: files of other programs, which nothing reads."""

    checked: int
    problems: tuple[Problem, ...]
    foreign: tuple[str, ...] = ()


class PrintedRemoval(Printed, frozen=True):
    """`artifacts rm`: what was deleted, or would be without `--yes`."""

    removed: bool
    ids: tuple[str, ...]
    names: tuple[str, ...]
    bytes: int
