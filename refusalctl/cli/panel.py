"""`refusalctl panel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out

if TYPE_CHECKING:
    from refusalctl.store.store import Artifact


def panel(
    labels: Annotated[
        list[str], typer.Argument(help="Labels of the same completions by two or more judges.", show_default=False)
    ],
    rule: Annotated[str, typer.Option(help="majority (more than half of the judges) or unanimous.")] = "majority",
    store: o.StoreOption = o.DEFAULT_STORE,
    name: o.NameOption = None,
    json: o.JsonOption = False,
) -> None:
    """Agreement of several judges per language (kappa with intervals), where they part, and their label by a rule.

    Prints the ids of the panel's labels, one per completions artifact, and last the id of the panel. A tie is a label
    of its own kind: unparsed, with the votes as its reason.
    """
    from refusalctl.stats.panel import RULES
    from refusalctl.steps.labelling.panel import form_panel, panel_labels

    if rule not in RULES:
        raise typer.BadParameter(f"--rule takes {' or '.join(RULES)}, found {rule!r}")
    bench = o.workbench(store, o.DEFAULT_MODEL, quiet=json)
    given = [bench.store.resolve(reference, "labels") for reference in labels]
    made = form_panel(bench, given, rule)  # type: ignore[arg-type]
    voted = panel_labels(bench, made, given)
    show(made)
    o.finish(bench, [*voted, made], name=name, json=json)


def show(made: Artifact) -> None:
    """Agreement and votes per language, on stderr."""
    from refusalctl.steps.labelling.panel import read_panel

    rows: list[tuple[object, ...]] = []
    for lang, found in read_panel(made)["languages"].items():
        rows += [(lang, p["first"], p["second"], *_numbers(p), _apart(p["apart"])) for p in found["pairs"]]
        if found["all"] is not None:
            rows.append((lang, "all judges", "", *_numbers(found["all"]), ""))
        rows.append(
            (lang, "together", "", found["n"], "", "", ", ".join(f"{n} {k}" for k, n in found["votes"].items()))
        )
    out.table_err(("language", "judge", "and", "n", "agree", "kappa", "where they part, or what they say"), rows)


def _numbers(found: dict[str, Any]) -> tuple[str, str, str]:
    if found["kappa"] is None:
        kappa = f"undefined ({found['undefined']})"
    else:
        limits = "[{:.2f}, {:.2f}]".format(*found["interval"]) if found["interval"] else "[no interval]"
        kappa = f"{found['kappa']:.2f} {limits}"
    n = f"{found['n']}" + (f" (+{found['left_out']} unlabelled)" if found["left_out"] else "")
    return n, f"{found['agree'] / found['n']:.0%}" if found["n"] else "", kappa


def _apart(apart: list[dict[str, Any]]) -> str:
    return ", ".join(f"{each['first']}/{each['second']} {each['n']}" for each in apart[:4])
