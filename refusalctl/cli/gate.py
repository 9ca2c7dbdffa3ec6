"""`refusalctl gate`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import DEFAULT_STORE, ConfigOption, JsonOption, StoreOption, path_option
from refusalctl.disk import write_whole
from refusalctl.errors import BadInput
from refusalctl.file_errors import explained
from refusalctl.records.gate import GateCheck, GateState, PrintedGate
from refusalctl.records.transfer import Transfer

EXIT_CODES: dict[GateState, int] = {"met": 0, "not met": 3, "undecided": 4}
SHOWN: dict[GateState, str] = {"met": "met", "not met": "NOT MET", "undecided": "undecided"}


def gate(
    transfer: Annotated[str, typer.Argument(help="Transfer artifact: id, unique prefix, name, or a query.")],
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect",
            help="SOURCE>TARGET=VERDICT or !=; `*` for every other language, `|` between verdicts, `induction:` before "
            "it for addition. Repeatable.",
        ),
    ] = None,
    config: ConfigOption = None,
    junit: Annotated[Path | None, path_option("--junit", "Write the checks to this file as JUnit XML.")] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Check a transfer's verdicts against what is expected of them, for continuous integration. Computes nothing.

    Exit codes: 0 all expectations are met, 3 one is not met, 4 none is broken but one is undecided (inconclusive,
    uninformative or not measured), 1 error, 2 wrong usage. Expectations come from --expect and from `expect` in the
    [gate] section of --config.
    """
    from refusalctl.report.expectations import check, overall, parse
    from refusalctl.report.junit import junit as as_junit
    from refusalctl.resolve import expectations
    from refusalctl.store.formats import read_record
    from refusalctl.store.store import Store

    expected = [parse(each) for each in (*(expect or ()), *(expectations(config) if config is not None else ()))]
    if not expected:
        raise typer.BadParameter("give --expect, such as --expect 'en>de=transfers', or --config with a [gate] section")
    kept = Store(store, out.warn)
    found = kept.resolve(transfer, "transfer")
    kept.check(found)  # a file that somebody changed opens no gate
    checks = check(read_record(found.path, Transfer), expected)
    state = overall(checks)
    if junit is not None:
        about = {name: str(found.about[name]) for name in ("model", "data", "judge") if found.about.get(name)}
        with explained("write to", junit, hint="choose another file for --junit", kind=BadInput):
            write_whole(junit, as_junit(checks, {"transfer": found.id, **about}, datetime.now(UTC)))
    if json:
        out.as_json(PrintedGate(found.id, state, EXIT_CODES[state], checks))
    else:
        heads = ("expected", "question", "verdict", "state", "removed", "95 %")
        out.table("", heads, [_row(each) for each in checks])
        for each in checks:
            if each.state != "met":
                out.info(f"{each.source}>{each.target}: {each.reason}")
    raise typer.Exit(EXIT_CODES[state])


def _row(each: GateCheck) -> tuple[object, ...]:
    moved = "" if each.removed is None else f"{each.removed:+.0%}"
    limits = "" if each.interval95 is None else f"[{each.interval95[0]:+.0%}, {each.interval95[1]:+.0%}]"
    return each.expectation, each.question, each.verdict or "not measured", SHOWN[each.state], moved, limits
