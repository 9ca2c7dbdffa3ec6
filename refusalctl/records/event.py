"""One line of a run's event log: what began, ended, failed, or was there already; where, when and for how long."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from refusalctl.records.rows import Row

EventName = Literal["began", "ended", "found", "failed", "interrupted", "skipped", "lost"]
Scope = Literal["run", "goal", "step"]


class Event(Row, frozen=True, omit_defaults=True):
    """Something that happened to a run, to one of its goals, or to a step.

    `time` is UTC in ISO 8601, `seconds` a duration. `name`: of a run, the command; of a goal or a step, its name.
    `found`: its result was in the store. `skipped`: a goal that needs one which failed. `lost`: a goal whose worker was
    lost; it is tried elsewhere. `id` is the artifact's. `error` is the kind of failure and `message` what a person was
    told, also of a step that ended without an artifact because there is none: `recipe` is its key. Of a bug only the
    place in the code stands here, since its text may quote a prompt.
    """

    time: str
    run: str
    host: str
    pid: int
    scope: Scope
    event: EventName
    name: str
    goal: str | None = None  # that a step was computed for
    kind: str | None = None
    id: str | None = None
    seconds: float | None = None
    error: str | None = None
    message: str | None = None
    recipe: str | None = None
    about: dict[str, Any] = msgspec.field(default_factory=dict)
