"""`refusalctl panel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refusalctl.cli import out
from refusalctl.cli.session import Session, asks

if TYPE_CHECKING:
    from refusalctl.records.estimates import Interval
    from refusalctl.records.panel import JudgeAgreement, JudgePair
    from refusalctl.results import Panel

Rule = Literal["majority", "unanimous"]


@asks(dry_run=False, file=False)
def panel(
    session: Session,
    labels: Annotated[
        list[str], typer.Argument(help="Labels of the same completions by two or more judges.", show_default=False)
    ],
    rule: Annotated[Rule, typer.Option(help="majority (more than half of the judges) or unanimous.")] = "majority",
) -> None:
    """Measure how far several judges agree per language, where they disagree, and make one label by a rule.

    Prints the ids of the panel's labels, one per completions artifact, and last the id of the panel. A tie is a label
    of its own kind: unparsed, with the votes as its reason.
    """
    study = session.study
    made, voted = study.panel([study.open_labels(each) for each in labels], rule)
    show(made)
    session.finish(*voted, made)


def show(made: Panel) -> None:
    """Agreement and votes per language, on stderr."""
    rows: list[tuple[object, ...]] = []
    for lang, found in made.languages.items():
        for pair in found.pairs:
            rows.append((lang, pair.first, pair.second, *_numbers(pair.agreement), _differences(pair)))
        if found.all_judges is not None:
            rows.append((lang, "all judges", "", *_numbers(found.all_judges), ""))
        rows.append((lang, "together", "", found.n, "", "", "", ", ".join(f"{n} {k}" for k, n in found.votes.items())))
    out.table_err(
        ("language", "judge", "and", "n", "agree", "kappa", "AC1", "where they disagree, or what they say"), rows
    )


def _numbers(found: JudgeAgreement) -> tuple[str, str, str, str]:
    kappa = f"undefined ({found.undefined})" if found.kappa is None else _limits(found.kappa, found.interval)
    ac1 = "" if found.ac1 is None else _limits(found.ac1, found.ac1_interval)
    n = f"{found.n}" + (f" (+{found.left_out} unlabelled)" if found.left_out else "")
    return n, f"{found.agree / found.n:.0%}" if found.n else "", kappa, ac1


def _limits(value: float, interval: Interval | None) -> str:
    return f"{value:.2f} " + ("[{:.2f}, {:.2f}]".format(*interval) if interval else "[no interval]")


def _differences(pair: JudgePair) -> str:
    return ", ".join(f"{each.first}/{each.second} {each.n}" for each in pair.disagreements[:4])
