"""The HTML page: templates, and the few functions that they call. Nothing is looked up here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from refusalctl.data.languages import name as language_name
from refusalctl.data.published_rates import work
from refusalctl.records.transfer import TransferCell
from refusalctl.report import cost_words
from refusalctl.report import words as words
from refusalctl.report.book import MOST_TEXTS, Book
from refusalctl.report.content import Content
from refusalctl.report.imported import conclusions
from refusalctl.store.hashing import short
from refusalctl.version import __version__

SHADES = 10  # steps of the heat map's scale
OPEN_ROWS = 60  # tables with more rows start folded


def settings_toml(rows: Content) -> str:
    """The experiment as a file that `refusalctl run` reads."""
    name = str(rows.model["name"])
    model = {"name": name, "dtype": rows.model["dtype"], "system": rows.model["system"]}
    if "/" in name:  # a hub id can be asked for at its revision; other models carry it in themselves
        model["name"] = f"{name}@{rows.model['revision']}"
    if rows.model.get("attention"):
        model["attention"] = rows.model["attention"]
    arm = str(rows.model.get("thinking") or "none").partition(":")[0]
    if arm != "none":
        model["thinking"] = arm
    if rows.model.get("trust_remote_code"):
        model["trust_remote_code"] = True
    lines = []
    for section, values in (("experiment", rows.settings.by_name()), ("model", model)):
        lines += [f"[{section}]", *(f"{k} = {_toml(v)}" for k, v in values.items() if v is not None), ""]
    return "\n".join(lines).rstrip() + "\n"


def _toml(value: object) -> str:
    # JSON's strings, numbers, lists and booleans are TOML's too
    return json.dumps(value, ensure_ascii=False)


def shade(share: float) -> str:
    """Class of a heat map's cell: q0 to q10 for shares of 0 to 1, n1 to n3 below."""
    if share <= -0.05:
        return f"n{min(3, int(-share * SHADES) + 1)}"
    return f"q{min(SHADES, max(0, round(share * SHADES)))}"


def environment() -> Any:
    """Templates with escaping switched on for every value: model output is untrusted."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "percent": words.percent,
        "points": words.points,
        "signed": words.signed,
        "short": short,
        "lang": words.label,
        "name": language_name,
        "repr": repr,
        "shade": shade,
        "listed": words.listed,
        "condition": words.condition_name,
        "decimals": _decimals,
        "thoughts": words.thoughts,
        "cap": _capital,
        "median": _median,
    }
    env.tests["measured"] = lambda row: isinstance(row, TransferCell)
    env.globals |= {"MARKS": words.MARKS, "OPEN_ROWS": OPEN_ROWS, "MOST_TEXTS": MOST_TEXTS}
    return env


def _capital(text: str) -> str:
    first = text[:1].upper()
    return type(text)(first + text[1:])  # what was markup stays markup


def _decimals(value: float | None, n: int = 2) -> str:
    if value is None:
        return "none"
    return f"{round(value, n) + 0.0:.{n}f}".replace("-", "\N{MINUS SIGN}")  # never a zero with a sign


def _median(values: list[float]) -> float:
    return median(values)


def page(rows: Book, drawings: Mapping[str, str]) -> str:
    """The HTML page; `drawings` are inline SVG elements by figure name, beside several runs `KEY-NAME`."""
    from markupsafe import Markup

    return str(
        environment()
        .get_template("report.html.j2")
        .render(
            b=rows,
            sources=rows.sources,
            drawings={k: Markup(v) for k, v in drawings.items()},  # drawn by figures/, text as paths
            answer=lambda c, target: words.answer(c, target, rows.reference),
            brief=lambda c, target: words.brief(c, target, rows.reference),
            conclusions=conclusions,
            toml=settings_toml,
            cost_sentences=cost_words.sentences,
            cost_order=cost_words.in_order,
            cost_row=cost_words.shown_row,
            work=work() if rows.with_published else None,
            version=__version__,
        )
    )
