"""`report`: a transfer matrix and its selections to one page, figures and tables.

Everything shown comes from artifacts; the source language of a direction is read from the prompts that it was
extracted from. No prompt and no completion is read, so none can be printed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refusalctl.data.languages import name as language_name
from refusalctl.stats.rates import fewest_flips
from refusalctl.steps.report_rows import Condition, Content, label, obstacles, percent
from refusalctl.steps.report_sources import content
from refusalctl.steps.report_tables import CANDIDATE_COLUMNS, RATE_COLUMNS, as_csv, candidate_rows, rate_row
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store.hashing import short
from refusalctl.store.store import Artifact

PAGE, RATES, CANDIDATES = "report.html", "rates.csv", "candidates.csv"


def settings_toml(rows: Content) -> str:
    """The experiment as a file that `refusalctl run` reads."""
    model = {"name": rows.model["name"], "dtype": rows.model["dtype"], "system": rows.model["system"]}
    if "/" in model["name"]:  # a hub id can be asked for at its revision; other models carry it in themselves
        model["name"] += f"@{rows.model['revision']}"
    if rows.model.get("trust_remote_code"):
        model["trust_remote_code"] = True
    lines = []
    for section, values in (("experiment", rows.experiment), ("model", model)):
        lines += [f"[{section}]", *(f"{k} = {_toml(v)}" for k, v in values.items() if v is not None), ""]
    return "\n".join(lines).rstrip() + "\n"


def _toml(value: Any) -> str:
    # JSON's strings, numbers, lists and booleans are TOML's too
    return json.dumps(value, ensure_ascii=False)


def page(rows: Content, drawings: Mapping[str, str]) -> str:
    """The HTML page; `drawings` are inline SVG elements by figure name."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = Path(__file__).with_name("templates")
    env = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"percent": percent, "short": short, "lang": label, "name": language_name, "repr": repr}
    return env.get_template("report.html.j2").render(
        c=rows,
        drawings={k: Markup(v) for k, v in drawings.items()},  # drawn by figures.py, text as paths
        obstacles=lambda row: obstacles(rows, row),
        measured=lambda row: isinstance(row, Condition),
        toml=settings_toml(rows),
        fewest=fewest_flips(),
    )


def _run(job: Job) -> dict[str, Any]:
    import matplotlib

    from refusalctl.steps import figures

    transfer = job.inputs["transfer"]
    rows = content(job.bench.store, transfer)
    drawings = {name: draw(rows) for name, draw in figures.FIGURES.items()}
    inline = {}
    for name, drawing in drawings.items():
        (job.out / f"{name}.png").write_bytes(figures.png(drawing))
        svg = figures.svg(drawing, name)
        (job.out / f"{name}.svg").write_text(svg, encoding="utf-8")
        inline[name] = figures.inline(svg, name, figures.DESCRIPTIONS[name])
    lines = [rate_row(r, rows.transfer) for r in (*rows.conditions, *rows.harmless.values())]
    (job.out / RATES).write_text(as_csv(RATE_COLUMNS, lines), encoding="utf-8")
    scored = [line for found in rows.choices.values() for line in candidate_rows(found)]
    (job.out / CANDIDATES).write_text(as_csv(CANDIDATE_COLUMNS, scored), encoding="utf-8")
    (job.out / PAGE).write_text(page(rows, inline), encoding="utf-8")
    return {"conditions": len(lines), "candidates": len(scored), "matplotlib": matplotlib.__version__}


STEP = Step("report", 1, "report", _run)


def report(bench: Workbench, transfer: Artifact) -> Artifact:
    """The page, figures and tables of one transfer matrix. Raises `Corrupt` where its parts contradict each other."""
    inputs = {"transfer": transfer}
    if not bench.dry_run:  # a planned transfer names selections that are not there yet
        for name, identifier in transfer.inputs.items():
            if name.startswith("selection:"):
                inputs[name] = bench.store.open("selection", identifier)
    return bench.obtain(STEP, {}, inputs, dict(transfer.about))
