"""What `--json` prints: one document per command. Its schemas are in docs/formats/."""

from __future__ import annotations

from typing import Any

import msgspec

from refusalctl.records.calibration import CalibrationTrial
from refusalctl.records.event import Event


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


class PrintedExperiment(Printed, frozen=True):
    """`init`: the file that was written, and what it asks."""

    path: str
    model: str
    data: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]


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
    """Something of a store that is not as it was written. `damage`: its kind in one word, such as `changed-bytes`."""

    where: str
    what: str
    damage: str


class Verified(Printed, frozen=True):
    """`artifacts verify`. `foreign`: files of other programs, which nothing reads."""

    checked: int
    problems: tuple[Problem, ...]
    foreign: tuple[str, ...] = ()


class PlannedTrial(Printed, frozen=True):
    """An entry of `calibrate --dry-run`."""

    design: str
    architecture: str
    seed: int
    n: int
    rank: int


class PrintedCalibration(Printed, frozen=True):
    """`calibrate`: verdicts beside the truth, and the artifact that keeps them."""

    id: str
    trials: tuple[CalibrationTrial, ...]


class ListedJudge(Printed, frozen=True):
    """An entry of `judge --list`: a judge's facts, as its makers state them. `languages` None: none named."""

    name: str
    languages: tuple[str, ...] | None
    licence: str
    source: str
    model: str | None
    size: str
    gated: bool
    refusal_label: bool
    harm_label: bool
    needs_prompt: bool
    verified: bool
    version: int
    only_listed: bool
    endpoint: bool


class ShownFile(Printed, frozen=True):
    """A payload file of an artifact."""

    bytes: int
    sha256: str


class ShownArtifact(Printed, frozen=True):
    """`artifacts show`: the manifest, and `run`, what happened while it was computed (None: cannot be read).

    `in_words`: what was done to the model, where it is about an intervention.
    """

    id: str
    path: str
    kind: str
    format: str
    version: int
    about: dict[str, Any]
    recipe: dict[str, Any]
    files: dict[str, ShownFile]
    run: dict[str, Any] | None
    in_words: str | msgspec.UnsetType = msgspec.UNSET


class Collected(Printed, frozen=True):
    """`artifacts gc`: what was removed with `--yes`, or would be without.

    `leftovers`: drafts and rows in the store's `tmp/` and `partial/` that killed processes left, swept alike.
    """

    bytes: int
    removed: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    would_remove: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    leftovers: tuple[str, ...] = ()


class PrintedRemoval(Printed, frozen=True):
    """`artifacts rm`: what was deleted, or would be without `--yes`."""

    removed: bool
    ids: tuple[str, ...]
    names: tuple[str, ...]
    bytes: int


class PrintedRepair(Printed, frozen=True):
    """One thing that `artifacts repair` does, or would do without `--yes`; `obstacle`: why it cannot."""

    where: str
    damage: str
    how: str
    done: bool
    obstacle: str | None = None


class PrintedRepairs(Printed, frozen=True):
    """`artifacts repair`: what was done with `--yes`, or would be, and what stays damaged."""

    repaired: bool
    repairs: tuple[PrintedRepair, ...]
    left: tuple[Problem, ...]


class ListedGoal(Printed, frozen=True):
    """A part of a transfer that can be computed apart from others. `lang`: what it is about, of a pair the target;
    `needs`: goals that come before it; `ids`: artifacts that it gave, none where a language has no direction."""

    name: str
    lang: str
    needs: tuple[str, ...]
    done: bool
    ids: tuple[str, ...]


class PrintedGoals(Printed, frozen=True):
    """`--list-goals`, and the goals that `--only` computed."""

    goals: tuple[ListedGoal, ...]


class ListedRun(Printed, frozen=True):
    """A run in the event log. `state`: ended, failed, interrupted, or open: running, or killed."""

    run: str
    began: str
    host: str
    name: str
    state: str
    seconds: float | None
    computed: int
    found: int
    failed: int
    workers: int


class LoggedRun(Printed, frozen=True):
    """`artifacts log RUN`: everything that happened, in order; `unread`: lines that a kill cut short."""

    run: str
    unread: int
    events: tuple[Event, ...]


class SharedArtifact(Printed, frozen=True):
    """An artifact of `artifacts push|pull|export|import`; bytes of its payload. `sent`: it was (or would be) brought
    over; otherwise the other side has it."""

    kind: str
    id: str
    bytes: int
    sent: bool


class PrintedSharing(Printed, frozen=True):
    """`artifacts push|pull|export|import`: what was brought where, or would be with `--dry-run`.

    `bytes`: of the payloads that are brought over; `chosen`: ids of what was asked for, without its lineage.
    """

    where: str
    dry_run: bool
    chosen: tuple[str, ...]
    artifacts: tuple[SharedArtifact, ...]
    names: tuple[str, ...]
    bytes: int
