"""`refusalctl artifacts repair`."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from refusalctl.cli import out
from refusalctl.cli.session import MACHINE, Session, asks
from refusalctl.records.printed import PrintedRepair, PrintedRepairs
from refusalctl.records.printed import Problem as PrintedProblem
from refusalctl.store.artifact import Problem
from refusalctl.store.damage import Damage
from refusalctl.store.hashing import short
from refusalctl.store.mend import mend, mendable
from refusalctl.store.store import KINDS, Store
from refusalctl.store.verify import verify

AGAIN = "computed again"


@asks(*MACHINE, dry_run=False, named=False, file=False)
def repair(
    session: Session,
    yes: Annotated[bool, typer.Option("--yes", help="Repair; without this only the plan is shown.")] = False,
    lineage: Annotated[
        str | None, typer.Option(metavar="REF", help="Only this artifact and all that it was made from.")
    ] = None,
) -> None:
    """Mend what `verify` finds: bookkeeping from the store's second records, artifacts by computing their recipes
    again. Shows the plan first; --yes carries it out.

    What is damaged stays until the same artifact takes its place. What people made or imported cannot be computed.
    Exits 1 where something stays damaged.
    """
    store = Store(session.store, out.warn)
    found = verify(store, lineage=lineage).problems
    mendings = [each for each in mendable(store, found) if each.how is not None]
    lines = [PrintedRepair(m.problem.where, m.problem.damage.value, str(m.how), yes) for m in mendings]
    if yes:
        mend(store, found)
        found = verify(store, lineage=lineage).problems
        still = {(p.where, p.damage.value) for p in found}
        lines = [msgspec.structs.replace(each, done=(each.where, each.damage) not in still) for each in lines]
    else:
        found = [each for each in found if each not in {m.problem for m in mendings}]
    lines += _again(session, store, found, yes)
    left = verify(store, lineage=lineage).problems if yes else _untouched(found, lines)
    _tell(session, lines, left, yes)
    if left:
        raise typer.Exit(1)


def _again(session: Session, store: Store, problems: list[Problem], yes: bool) -> list[PrintedRepair]:
    """What is, or would be, computed again."""
    from refusalctl.report.comparison import COMPARISON_PAGE
    from refusalctl.report.make import REPORT
    from refusalctl.steps.repair import plan_recomputation, recompute

    more, damage = (REPORT, COMPARISON_PAGE), {p.artifact: p.damage.value for p in reversed(problems) if p.artifact}
    planned, unknown = plan_recomputation(store, problems, more)
    lines = []
    for each in planned:
        why = each.obstacle if not yes else recompute(session.study.bench, each, more).problem
        lines.append(PrintedRepair(each.label, damage[each.kind, each.id], AGAIN, yes and why is None, why))
    why = "no manifest, and no copy of it, says how it was made"
    return lines + [PrintedRepair(label, Damage.MISSING_MANIFEST.value, AGAIN, False, why) for label in unknown]


def _untouched(problems: list[Problem], lines: list[PrintedRepair]) -> list[Problem]:
    """What the plan would leave as it is. An input that is missing, and what a name points to, come back with it."""
    planned = {line.where for line in lines if line.obstacle is None}
    coming = {where.rpartition("/")[2] for where in planned if where.partition("/")[0] in KINDS}

    def planned_for(problem: Problem) -> bool:
        if problem.damage in (Damage.MISSING_INPUT, Damage.DANGLING_NAME):
            return any(identifier in problem.what for identifier in coming)
        return problem.artifact is not None and f"{problem.artifact[0]}/{short(problem.artifact[1])}" in planned

    return [problem for problem in problems if not planned_for(problem)]


def _tell(session: Session, lines: list[PrintedRepair], left: list[Problem], yes: bool) -> None:
    if session.json:
        problems = tuple(PrintedProblem(p.where, p.what, p.damage.value) for p in left)
        out.as_json(PrintedRepairs(yes, tuple(lines), problems))
        return
    for line in lines:
        out.data(f"{line.where}: {line.how if line.obstacle is None else f'not {line.how}: {line.obstacle}'}")
    for problem in left:
        out.data(f"{problem.where}: stays as it is: {problem.what}")
    for note in session.study.notes if yes else ():
        out.warn(note)
    count = sum(line.done if yes else line.obstacle is None for line in lines)
    verb = "repaired" if yes else "would repair (add --yes)"
    out.info(f"{verb}: {count}; stays damaged: {len(left)}")
