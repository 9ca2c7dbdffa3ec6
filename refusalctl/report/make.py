"""`report`: transfer matrices and their geometry to one page, figures and tables.

Everything shown comes from artifacts; the source language of a direction is read from the prompts that it was
extracted from. No prompt is ever shown, and completions only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from refusalctl.errors import BadInput
from refusalctl.json_types import JsonObject
from refusalctl.report import tables as tables
from refusalctl.report.book import Book, book, reference_language
from refusalctl.report.content import told_apart
from refusalctl.report.excluded import Unfit, unfit
from refusalctl.report.figures import DESCRIPTIONS
from refusalctl.report.page import page
from refusalctl.report.provenance import Provenance
from refusalctl.settings import GeometrySettings, Settings
from refusalctl.steps.geometry import geometry_of_activations
from refusalctl.steps.input_names import input_name, inputs_of
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.steps.transfer import read_transfer
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, MARKDOWN, LATEX = "report.html", "report.md", "report.tex"
RATES, CANDIDATES, GEOMETRY, EXCLUDED = "rates.csv", "candidates.csv", "geometry.csv", "excluded.csv"
COST = "cost.csv"
TEXT_FORMATS = {"html": PAGE, "md": MARKDOWN, "latex": LATEX}
BY_ENDING = ("json", "csv", "png", "svg", "pdf")


def _figures(rows: Book) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """File name, what it shows, and how it is drawn."""
    from refusalctl.report.figures.compliance import Pair, compliance
    from refusalctl.report.figures.cost import cost_of_removal
    from refusalctl.report.figures.geometry import activation_maps, layer_cosines, projections
    from refusalctl.report.figures.layers import layer_scores
    from refusalctl.report.figures.matrix import transfer_matrix
    from refusalctl.report.figures.rates import refusal_rates

    published = {
        i: {k: Pair(*v) for p in run.published if p.source == rows.reference for k, v in p.compliance.items()}
        for i, run in enumerate(rows.runs)
    }
    contents = [run.content for run in rows.runs]
    yield "compliance", "compliance", lambda: compliance(contents, rows.reference, published)
    for run in rows.runs:
        name = f"{run.key}-" if rows.several else ""
        c, g = run.content, run.geometry
        yield f"{name}refusal_rates", "refusal_rates", lambda c=c: refusal_rates(c, rows.reference)  # type: ignore[misc]
        yield f"{name}transfer_matrix", "transfer_matrix", lambda c=c: transfer_matrix(c)  # type: ignore[misc]
        if c.imported is None:
            yield f"{name}layer_scores", "layer_scores", lambda c=c: layer_scores(c)  # type: ignore[misc]
        if run.costs:
            records = [panel.record for panel in run.costs]
            yield f"{name}cost", "cost", lambda records=records: cost_of_removal(records)  # type: ignore[misc]
        if g is not None:
            drawn = {"layer_cosines": layer_cosines, "projections": projections, "activation_maps": activation_maps}
            for what, draw in drawn.items():
                yield f"{name}{what}", what, lambda draw=draw, g=g: draw(g)  # type: ignore[misc]


def _run(job: Job) -> RunChecks:
    import matplotlib

    params = job.params
    transfers, geometries = inputs_of("transfer", job.inputs), inputs_of("geometry", job.inputs)
    rows = book(
        job.bench.store,
        list(transfers.values()),
        {transfers[number].id: geometry for number, geometry in geometries.items()},
        msgspec.convert(params["unfit"], list[Unfit]),
        reference=params["reference"],
        with_published=params["published"],
        with_text=params["with_text"],
        costs=list(inputs_of("cost", job.inputs).values()),
    )
    drawings = _draw(job, rows)
    for name, text in _texts(rows).items():
        (job.out / name).write_text(text, encoding="utf-8")
    (job.out / PAGE).write_text(page(rows, drawings), encoding="utf-8")
    formats.write_record(job.out, tables.as_record(rows))
    return {"runs": len(rows.runs), "figures": len(drawings), "matplotlib": matplotlib.__version__}


def _draw(job: Job, rows: Book) -> dict[str, str]:
    """Write every figure in three formats; return them as elements of the page."""
    from refusalctl.report.figures import style as look

    planned = list(_figures(rows))
    inline: dict[str, str] = {}
    with job.bench.progress.task("report: figures", len(planned)) as advance:
        for name, what, draw in planned:
            drawing = draw()
            (job.out / f"{name}.png").write_bytes(look.png(drawing))
            (job.out / f"{name}.pdf").write_bytes(look.pdf(drawing))
            svg = look.svg(drawing, name)
            (job.out / f"{name}.svg").write_text(svg, encoding="utf-8")
            inline[name] = look.inline(svg, f"f{len(inline)}-", DESCRIPTIONS[what])
            advance()
    return inline


def _texts(rows: Book) -> dict[str, str]:
    found = {
        RATES: tables.rates_csv(rows),
        CANDIDATES: tables.candidates_csv(rows),
        EXCLUDED: tables.excluded_csv(rows),
        MARKDOWN: tables.as_markdown(rows),
        LATEX: tables.as_latex(rows),
    }
    if any(run.geometry for run in rows.runs):
        found[GEOMETRY] = tables.geometry_csv(rows)
    if any(run.costs for run in rows.runs):
        found[COST] = tables.cost_csv(rows)
    return found


REPORT = Step("report", 9, "report", _run)


def make_report(
    bench: Workbench,
    transfers: Sequence[Artifact],
    *,
    geometry: bool = True,
    reference: str | None = None,
    published: bool = False,
    with_text: bool = False,
    costs: Sequence[Artifact] = (),
) -> Artifact:
    """The page, figures and tables of one or more transfer matrices, and cost panels of their directions.

    `geometry` is computed from collected activations where it is not there yet; no model runs. Raises `Corrupt` where
    parts of a transfer contradict each other, `BadInput` for a `reference` that is no source language.
    """
    asked = reference_language(list(transfers), reference)
    known = sorted({lang for t in transfers for lang in str(t.about["sources"]).split(",")})
    if asked not in known:
        raise BadInput(f"{asked!r} is no source language of these transfers", hint=f"they have {', '.join(known)}")
    inputs: dict[str, Artifact] = {}
    for i, transfer in enumerate(transfers, start=1):
        inputs[input_name("transfer", i)] = transfer
        if geometry and not bench.dry_run and (found := geometry_of(bench, transfer, asked)) is not None:
            inputs[input_name("geometry", i)] = found
    inputs |= {input_name("cost", i): cost for i, cost in enumerate(costs, start=1)}
    about = {k: _joined(str(t.about[k]) for t in transfers) for k in ("model", "data", "sources", "targets")}
    if not bench.dry_run:
        about["model"] = _joined(told_apart([read_transfer(t).model for t in transfers]))
    params: JsonObject = {
        "reference": asked,
        "published": published,
        "with_text": with_text,
        "unfit": [] if bench.dry_run else [_unfit(t).to_json() for t in transfers],
    }
    return bench.obtain(REPORT, params, inputs, about)


def _joined(values: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(values))


def _unfit(transfer: Artifact) -> Unfit:
    record = read_transfer(transfer)
    if record.imported is not None:  # of a prompt set that is not known here
        return Unfit()
    asked = Settings.from_json(record.settings)
    return unfit(str(transfer.about["data"]), asked.langs)


def geometry_of(bench: Workbench, transfer: Artifact, reference: str) -> Artifact | None:
    """Geometry of the activations behind a transfer, at the reference language's chosen place; None for one language.

    A language without directions has no activations of train prompts here and is left out.
    """
    record = read_transfer(transfer)
    if record.imported is not None:  # without activations
        return None
    collected = Provenance(bench.store, transfer).activations()
    chosen = record.directions.get(reference)
    if len(collected) < 2 or reference not in collected or chosen is None:
        bench.note(f"no geometry for {transfer.label}: it needs two languages with directions, {reference} among them")
        return None
    asked = GeometrySettings(reference=reference, at=(chosen.pos, chosen.layer))
    return geometry_of_activations(bench, collected, asked, str(transfer.about["model"]))


def files_of(found: Artifact, kind: str) -> list[Path]:
    """Files of a report in one format. Raises `BadInput` for an unknown one, or one that this report has not."""
    if kind not in BY_ENDING and kind not in TEXT_FORMATS:
        raise BadInput(f"there is no report format {kind!r}", hint=f"choose {', '.join((*TEXT_FORMATS, *BY_ENDING))}")
    names = found.manifest["files"]
    files = [name for name in names if (name.endswith(f".{kind}") if kind in BY_ENDING else name == TEXT_FORMATS[kind])]
    if not files:
        raise BadInput(f"{found.label} has no file in the format {kind}", hint=f"it has {', '.join(sorted(names))}")
    return sorted(found.path / name for name in files)
