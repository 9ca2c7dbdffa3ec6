"""The event log of a store: `<store>/events/<run>[.<worker>].jsonl`, one file per process, appended line by line.

No artifact: nothing reads it but people, and lists of goals for them. A line is written by one call, so a kill cuts at
most the last one, which readers pass over; processes of one run on several machines write files of their own.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from refusalctl.disk import is_foreign
from refusalctl.errors import DataError, RefusalctlError, StoreError
from refusalctl.file_errors import explain, printable
from refusalctl.records.event import Event, EventName, Scope
from refusalctl.redaction import redacted_value
from refusalctl.store.rooms import inside, require_own
from refusalctl.store.store import Store

FOLDER = "events"
KEPT = 90 * 24 * 3600.0  # seconds untouched, after which `gc` removes a log


class Events(Protocol):
    """Where a run tells what happens."""

    def write(self, event: EventName, scope: Scope, name: str, **facts: Any) -> None: ...

    @contextmanager
    def goal(self, name: str) -> Iterator[None]: ...


class NoEvents:
    """Nobody listens."""

    def write(self, event: EventName, scope: Scope, name: str, **facts: Any) -> None:
        """Forget it."""

    @contextmanager
    def goal(self, name: str) -> Iterator[None]:  # noqa: ARG002
        yield


class EventLog:
    """The log of one process of a run. The file is made by the first line.

    A log that cannot be written stops no work: the store tells of it once.
    """

    def __init__(self, store: Store, run: str | None = None, worker: str | None = None) -> None:
        self.store, self.run = store, run or run_name()
        self.path = store.root / FOLDER / f"{self.run}{f'.{worker}' if worker else ''}.jsonl"
        self._goal: str | None = None
        self._lock = threading.Lock()
        self._number: int | None = None

    def write(self, event: EventName, scope: Scope, name: str, **facts: Any) -> None:
        told = {key: value for key, value in facts.items() if value is not None}
        if scope == "step" and self._goal is not None:
            told["goal"] = self._goal
        line = Event(_now(), self.run, socket.gethostname(), os.getpid(), scope, event, name, **told)
        try:
            with self._lock:
                os.write(self._file(), msgspec.json.encode(redacted_value(msgspec.to_builtins(line))) + b"\n")
        except (OSError, StoreError) as error:
            known = error if isinstance(error, StoreError) else explain(error, doing="write", path=self.path)
            self.store.tell(f"{known.message if known else error}: events are not written down")

    def _file(self) -> int:
        if self._number is None:
            require_own(self.store.root)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._number = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        return self._number

    @contextmanager
    def goal(self, name: str) -> Iterator[None]:
        """Steps inside the block are computed for this goal."""
        before, self._goal = self._goal, name
        try:
            yield
        finally:
            self._goal = before

    def close(self) -> None:
        if self._number is not None:
            os.close(self._number)
            self._number = None


def run_name() -> str:
    """`20261127T150134Z-host-pid-1a2b`: sorts by time, and no two are alike."""
    host = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in socket.gethostname())[:40]
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{host}-{os.getpid()}-{secrets.token_hex(2)}"


@dataclass
class End:
    """What the end of a block will say: the block may change it."""

    event: EventName = "ended"
    facts: dict[str, Any] = field(default_factory=dict)


@contextmanager
def told(events: Events, scope: Scope, name: str, **facts: Any) -> Iterator[End]:
    """`began` and then `ended`, `failed` or `interrupted` around a block, which may add facts to those of the end."""
    events.write("began", scope, name, **facts)
    started, end = time.monotonic(), End()
    try:
        yield end
    except BaseException as error:
        how: EventName = "failed" if isinstance(error, Exception) else "interrupted"
        events.write(how, scope, name, **facts, seconds=_since(started), **failure(error))
        raise
    events.write(end.event, scope, name, **(facts | end.facts), seconds=_since(started))


def failure(error: BaseException) -> dict[str, str]:
    """What a log may say of an error: all of a known one, of others where it was raised."""
    kind = type(error).__name__
    known = error if isinstance(error, RefusalctlError) else explain(error)
    if known is not None:
        return {"error": kind, "message": printable(str(known))}
    frames = traceback.extract_tb(error.__traceback__)
    return {"error": kind, **({"message": f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"} if frames else {})}


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class RunLog(NamedTuple):
    """Every line of one run, in the order of time, and how many lines could not be read."""

    run: str
    events: list[Event]
    unread: int


def logs(store: Store) -> list[Path]:
    """Files of the log, oldest first."""
    return [p for p in inside(store.root / FOLDER) if p.suffix == ".jsonl" and not is_foreign(p.name)]


def runs(store: Store) -> list[str]:
    """Every run that the log knows, oldest first."""
    return sorted({path.name.partition(".")[0] for path in logs(store)})


def read_run(store: Store, run: str) -> RunLog:
    """What all processes of a run wrote down."""
    found, unread = [], 0
    for path in logs(store):
        if path.name.partition(".")[0] != run:
            continue
        for line in path.read_bytes().splitlines():
            try:
                found.append(Event.from_json(msgspec.json.decode(line)))
            except (msgspec.DecodeError, DataError):
                unread += 1
    return RunLog(run, sorted(found, key=lambda event: event.time), unread)


def without_result(store: Store) -> dict[str, str]:
    """Keys of recipes that were computed and gave no artifact, each with the reason: a language without a direction."""
    events = (event for run in runs(store) for event in read_run(store, run).events)
    return {
        each.recipe: each.message or ""
        for each in events
        if (each.scope, each.event, each.id) == ("step", "ended", None) and each.recipe is not None
    }


def old_logs(store: Store, min_age: float = KEPT) -> list[Path]:
    """Files that nobody has written to for `min_age` seconds."""
    return [path for path in logs(store) if time.time() - path.stat().st_mtime >= min_age]
