"""`refusalctl artifacts log`."""

from __future__ import annotations

from typing import Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import DEFAULT_STORE, JsonOption, StoreOption
from refusalctl.errors import NotFound
from refusalctl.file_errors import printable
from refusalctl.records.event import Event
from refusalctl.records.printed import ListedRun, LoggedRun
from refusalctl.store.event_log import RunLog, read_run, runs
from refusalctl.store.hashing import short
from refusalctl.store.store import Store
from refusalctl.store.verify import require_store

ENDS = ("ended", "failed", "interrupted")


def log(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run, or the beginning of its name; `last` is the newest.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only what failed, stopped, was lost or skipped.")] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """List the runs that worked on this store, or show what happened in one: what began, ended, failed, was there
    already, for how long and on which host."""
    opened = Store(store, out.warn)
    require_store(opened)
    if run is None:
        _list([read_run(opened, each) for each in runs(opened)], json=json)
        return
    found = read_run(opened, _named(opened, run))
    events = [e for e in found.events if not failed or e.event in ("failed", "interrupted", "lost", "skipped")]
    if json:
        out.as_json(LoggedRun(found.run, found.unread, tuple(events)))
        return
    out.table("", ("time", "host", "process", "what", "name", "seconds", "about"), [_line(each) for each in events])
    if found.unread:
        out.warn(f"{found.unread} lines could not be read: a kill cut them short, or something else wrote there")


def _named(store: Store, asked: str) -> str:
    """Raises `NotFound` for a run that the log does not know, or knows more than once."""
    known = runs(store)
    fitting = known[-1:] if asked == "last" else [each for each in known if each.startswith(asked)]
    if len(fitting) != 1:
        what = "is no run" if not fitting else f"begins {len(fitting)} runs"
        raise NotFound(
            f"{printable(asked)!r} {what} in the log of {store.root}", hint="`refusalctl artifacts log` lists them"
        )
    return fitting[0]


def _list(logs: list[RunLog], *, json: bool) -> None:
    rows = [summary(each) for each in logs if each.events]
    if json:
        out.as_json(rows)
        return
    heads = ("run", "began", "command", "state", "seconds", "computed", "found", "failed", "workers")
    cells = [
        (r.run, r.began, r.name, r.state, _seconds(r.seconds), r.computed, r.found, r.failed, r.workers) for r in rows
    ]
    out.table("", heads, cells, right=heads[4:])


def summary(log: RunLog) -> ListedRun:
    """One run in numbers. What a process that was killed left open stays open."""
    first = log.events[0]
    whole = [e for e in log.events if e.scope == "run"]
    end = next((e for e in whole if e.event in ENDS), None)
    steps = [e for e in log.events if e.scope == "step"]
    workers = {(e.host, e.pid) for e in log.events if (e.scope, e.event) == ("goal", "began")}  # not the driver
    return ListedRun(
        log.run,
        first.time,
        first.host,
        whole[0].name if whole else "",
        "open" if end is None else end.event,
        None if end is None else end.seconds,
        sum(e.event == "ended" for e in steps),
        len({e.id for e in steps if e.event == "found"}),
        sum(e.event == "failed" for e in log.events if e.scope == "goal"),
        len(workers),
    )


def _line(event: Event) -> tuple[object, ...]:
    told = event.message if event.message else out.about_line(event.about)
    told = f"{event.error}: {told}" if event.error else told
    made = f"{event.kind}/{short(event.id)} " if event.kind and event.id else ""
    return (
        event.time,
        event.host,
        event.pid,
        f"{event.scope} {event.event}",
        event.name,
        _seconds(event.seconds),
        made + told,
    )


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"
