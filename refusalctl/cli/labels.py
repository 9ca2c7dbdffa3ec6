"""`refusalctl labels`: people's labels. Texts go into the file that the user names, never onto the screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out

if TYPE_CHECKING:
    from refusalctl.store.store import Artifact

app = typer.Typer(no_args_is_help=True, help="People's labels: draw a sheet, read it back, correct judges by it.")


@app.command()
def sample(
    labels: Annotated[
        list[str], typer.Argument(help="Labels by one judge, one per condition; any languages.", show_default=False)
    ],
    to: Annotated[Path, typer.Option("--out", help="Folder of the sheets; one sheet-LANG file per language.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Completions per language.")] = 120,
    seed: o.SeedOption = 0,
    format_: Annotated[str, typer.Option("--format", help="csv or jsonl.")] = "csv",
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite sheets that are there.")] = False,
    store: o.StoreOption = o.DEFAULT_STORE,
    json: o.JsonOption = False,
) -> None:
    """Draw completions for native speakers: equally from each condition and outcome, shuffled, with opaque ids.

    The sheets hold prompts and responses, which may be harmful. Prints the id of each language's sample, which
    `labels import` needs.
    """
    from refusalctl.steps.labelling.human import draw_sample, write_sheet

    if format_ not in ("csv", "jsonl"):
        raise typer.BadParameter(f"--format takes csv or jsonl, found {format_!r}")
    bench = o.workbench(store, o.DEFAULT_MODEL, quiet=json)
    by_lang: dict[str, list[Artifact]] = {}
    for reference in labels:
        found = bench.store.resolve(reference, "labels")
        by_lang.setdefault(str(found.about["lang"]), []).append(found)
    drawn = [draw_sample(bench, each, n, seed) for each in by_lang.values()]
    for artifact in drawn:
        path = to / f"sheet-{artifact.about['lang']}.{format_}"
        rows = write_sheet(bench, artifact, path, replace=replace)
        out.success(f"{rows} rows in {path}; they hold texts that may be harmful")
    o.finish(bench, drawn, json=json)


@app.command("import")
def import_(
    sheet: Annotated[Path, typer.Argument(help="A filled-in sheet, CSV or JSON lines.", show_default=False)],
    drawn: Annotated[str, typer.Option("--sample", help="The sample that the sheet was drawn as.")],
    annotator: Annotated[str, typer.Option(help="A name for who labelled it, such as native-1.")],
    partial: Annotated[bool, typer.Option("--partial", help="Take a sheet with empty labels.")] = False,
    store: o.StoreOption = o.DEFAULT_STORE,
    name: o.NameOption = None,
    json: o.JsonOption = False,
) -> None:
    """Read a sheet back: refusal, compliance, degenerate or unsure per row; stored as labels by human:ANNOTATOR."""
    from refusalctl.steps.labelling.human import import_sheet

    bench = o.workbench(store, o.DEFAULT_MODEL, quiet=json)
    found = import_sheet(bench, sheet, bench.store.resolve(drawn, "sample"), annotator, partial=partial)
    for each in found:
        out.success(f"{each.about['labelled']} labels: {out.about_line(each.about)}")
    o.finish(bench, found, name=name, json=json)


@app.command()
def correct(
    labels: Annotated[list[str], typer.Argument(help="Labels by judges, of any condition.", show_default=False)],
    human: Annotated[list[str], typer.Option("--human", help="People's labels, from `labels import`.")],
    store: o.StoreOption = o.DEFAULT_STORE,
    name: o.NameOption = None,
    json: o.JsonOption = False,
) -> None:
    """Sensitivity and specificity of each judge and language, and its rates corrected for its errors.

    An interval carries what the labels leave open about the judge. Where they are too few, or the judge is not shown to
    be better than chance, there is no number and the reason instead.
    """
    from refusalctl.steps.labelling.correction import correct_rates

    bench = o.workbench(store, o.DEFAULT_MODEL, quiet=json)
    judged = [bench.store.resolve(reference, "labels") for reference in labels]
    made = correct_rates(bench, judged, [bench.store.resolve(reference, "labels") for reference in human])
    _show(made)
    o.finish(bench, [made], name=name, json=json)


def _show(made: Artifact) -> None:
    from refusalctl.stats.outcomes import USABLE
    from refusalctl.steps.labelling.correction import read_correction

    rows: list[tuple[object, ...]] = []
    for found in read_correction(made)["judges"]:
        for outcome in USABLE:
            part = found[outcome]
            head = (found["lang"], found["judge"], outcome, _share(part["sensitivity"]), _share(part["specificity"]))
            rows += [(*head, *_rate(rate)) for rate in part["rates"]]
    columns = ("language", "judge", "outcome", "sensitivity", "specificity", "condition", "judge's rate", "corrected")
    out.table_err(columns, rows)


def _share(found: dict[str, Any] | None) -> str:
    return "none" if found is None else f"{found['value']:.2f} {_limits(found)} n={found['n']}"


def _rate(rate: dict[str, Any]) -> tuple[str, str, str]:
    origin = f" {rate['direction_lang']}" if rate.get("direction_lang") else ""
    own = f"{rate['rate']['value']:.2f} {_limits(rate['rate'])}" if rate["rate"] else "none"
    corrected = rate["corrected"]
    fixed = f"{corrected['value']:.2f} {_limits(corrected)}" if corrected else f"none: {rate['reason']}"
    return f"{rate.get('intervention', '')}{origin}", own, fixed


def _limits(found: dict[str, Any]) -> str:
    return "[{:.2f}, {:.2f}]".format(*found["interval"])
