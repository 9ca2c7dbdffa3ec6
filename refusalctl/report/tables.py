"""A report's rows as CSV, Markdown, LaTeX and JSON. What was not measured has no number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from refusalctl.data.languages import name as language_name
from refusalctl.records.rows import OUTCOMES
from refusalctl.report.book import Book
from refusalctl.report.rows import Choice, Condition, Missing
from refusalctl.report.words import answer, condition_name, points, signed

RATE_COLUMNS = (
    "model", "target", "prompts", "condition", "source", "status", "n", *OUTCOMES, "labelled",
    "refusal_rate", "refusal_low", "refusal_high", "compliance_rate", "compliance_low", "compliance_high",
    "degenerate_rate", "paired_n", "refusal_to_compliance", "compliance_to_refusal", "to_degenerate", "to_off_language",
    "paired_unparsed", "net_removed", "verdict", "verdict_reason", "removed", "removed_low", "removed_high",
    "labels", "completions", "transfer", "reason",
)  # fmt: skip
CANDIDATE_COLUMNS = (
    "model", "lang", "pos", "token", "layer", "bypass", "induce", "kl", "passes", "chosen", "bootstrap_share",
    "selection",
)  # fmt: skip
GEOMETRY_COLUMNS = (
    "model", "site", "pos", "layer", "a", "b", "cosine", "ceiling", "apart", "disattenuated", "null_95", "p", "p_by",
    "angles", "angle_null_05", "angle_p", "geometry",
)  # fmt: skip
EXCLUDED_COLUMNS = ("model", "split", "kind", "prompt_id", "reason", "langs")


def rate_row(row: Condition | Missing, transfer: str, model: str = "") -> dict[str, object]:
    """One line of rates.csv. What was not measured has no number."""
    condition = row.condition + (f" ({row.detail})" if isinstance(row, Condition) and row.detail else "")
    known: dict[str, object] = {
        "model": model,
        "target": row.target,
        "condition": condition,
        "source": row.source or "",
    }
    known |= {"transfer": transfer}
    if isinstance(row, Missing):
        return known | {"prompts": "harmful", "status": "no direction", "reason": row.reason}
    known |= {"prompts": row.prompts, "status": "measured", "n": row.n, "labels": row.labels}
    known |= {"completions": row.completions, "labelled": row.n - row.count("unparsed")}
    known |= {outcome: row.count(outcome) for outcome in OUTCOMES}
    for outcome in ("refusal", "compliance"):
        if (rate := row.rate(outcome)) is not None:
            low, high = rate.wilson()
            known |= {f"{outcome}_rate": _number(rate.value), f"{outcome}_low": _number(low)}
            known |= {f"{outcome}_high": _number(high)}
    if (rate := row.rate("degenerate")) is not None:
        known["degenerate_rate"] = _number(rate.value)
    if (moved := row.flips) is not None:
        known |= {"paired_n": moved.n, "refusal_to_compliance": moved.removed, "compliance_to_refusal": moved.gained}
        known |= {"to_degenerate": moved.to_degenerate, "paired_unparsed": moved.unparsed}
        known["to_off_language"] = moved.to_off_language
        known["net_removed"] = _number(moved.net)
    if (verdict := row.verdict) is not None:
        known |= {"verdict": verdict.value, "verdict_reason": verdict.reason}
        known |= {"removed": "" if verdict.removed is None else _number(verdict.removed)}
        if verdict.interval95 is not None:
            known |= {"removed_low": _number(verdict.interval95.low), "removed_high": _number(verdict.interval95.high)}
    return known


def candidate_rows(found: Choice) -> list[dict[str, object]]:
    return [
        {
            "lang": found.lang, "pos": c.pos, "token": repr(c.token), "layer": c.layer, "bypass": _number(c.bypass),
            "induce": _number(c.induce), "kl": _number(c.kl),
            "passes": "" if c.passes is None else str(c.passes).lower(),
            "chosen": str(c.chosen).lower(), "bootstrap_share": "" if c.share is None else _number(c.share),
            "selection": found.artifact,
        }
        for c in found.candidates
    ]  # fmt: skip


def _number(value: float) -> str:
    return "" if value != value else f"{value:.6g}"  # NaN: not measured


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# --- whole tables ------------------------------------------------------------------------------------


def _rows(rows: Book) -> list[tuple[str, str, Condition | Missing]]:
    """Model, transfer and every row of it: harmful conditions, harmless baselines, controls."""
    return [
        (str(run.content.model["name"]), run.content.transfer, row)
        for run in rows.runs
        for row in (*run.content.conditions, *run.content.harmless.values(), *run.content.others)
    ]


def rates_csv(rows: Book) -> str:
    return as_csv(RATE_COLUMNS, (rate_row(row, transfer, model) for model, transfer, row in _rows(rows)))


def candidates_csv(rows: Book) -> str:
    found = (
        {"model": run.content.model["name"], **line}
        for run in rows.runs
        for choice in run.content.choices.values()
        for line in candidate_rows(choice)
    )
    return as_csv(CANDIDATE_COLUMNS, found)


def geometry_csv(rows: Book) -> str:
    """A line per pair of languages and place."""
    lines: list[dict[str, object]] = []
    for run in rows.runs:
        for name, site in (run.geometry or {"sites": {}})["sites"].items():
            known = {"model": run.content.model["name"], "site": name, "pos": site["pos"], "layer": site["layer"]}
            for pair in site["pairs"]:
                numbers = {k: _number(v) for k, v in pair.items() if isinstance(v, float)}
                angles = " ".join(_number(a) for a in pair["angles"])
                lines.append(
                    {**known, "a": pair["a"], "b": pair["b"], **numbers, "angles": angles, "geometry": run.geometry_id}
                )
    return as_csv(GEOMETRY_COLUMNS, lines)


def excluded_csv(rows: Book) -> str:
    lines = [
        {"model": run.content.model["name"], "split": e.split, "kind": e.kind, "prompt_id": e.id, "reason": e.reason,
         "langs": " ".join(e.langs)}
        for run in rows.runs
        for e in run.excluded
    ]  # fmt: skip
    return as_csv(EXCLUDED_COLUMNS, lines)


def as_record(rows: Book) -> dict[str, Any]:
    """Every number of the page as JSON; a value that was not measured is absent."""
    return {
        "reference": rows.reference,
        "runs": [
            {
                "transfer": run.content.transfer,
                "geometry": run.geometry_id,
                "model": dict(run.content.model),
                "settings": run.content.settings.to_json(),
                "answers": {t: answer(run.content, t, rows.reference)._asdict() for t in run.content.targets},
                "conditions": [
                    {k: v for k, v in rate_row(row, transfer, model).items() if v != ""}
                    for model, transfer, row in _rows(rows)
                    if transfer == run.content.transfer
                ],
                "excluded": [e._asdict() for e in run.excluded],
                "no_direction": dict(run.content.no_direction),
            }
            for run in rows.runs
        ],
    }


_HEADINGS = ("Target", "Condition", "n", "Refusal, %", "95 %", "Compliance, %", "Removed, points", "Verdict")


def _cells(row: Condition | Missing) -> list[str]:
    if isinstance(row, Missing):
        return [language_name(row.target), condition_name(row), "", "no direction", "", "", "", ""]
    rate, complied = row.rate("refusal"), row.rate("compliance")
    if rate is None or complied is None:
        return [language_name(row.target), condition_name(row), str(row.n), "no label", "", "", "", ""]
    low, high = rate.wilson()
    limits = f"{points(low)}–{points(high)}"
    return [
        language_name(row.target), condition_name(row), str(rate.n), points(rate.value), limits, points(complied.value),
        signed(row.flips.net) if row.flips else "", row.verdict.value if row.verdict else "",
    ]  # fmt: skip


def as_markdown(rows: Book) -> str:
    """Answers and rates as GitHub-flavoured Markdown."""
    lines = ["# Refusal across languages", ""]
    for run in rows.runs:
        c = run.content
        lines += [f"## {_md(str(c.model['name']))}", ""]
        said = [answer(c, target, rows.reference).sentence for target in c.targets]
        lines += [f"- {_md(sentence)}" for sentence in said if sentence]
        lines += [] if c.judged else ["No verdict was computed."]
        lines += ["", f"| {' | '.join(_HEADINGS)} |", "|---|---|--:|--:|--:|--:|--:|---|"]
        shown = (*c.conditions, *c.harmless.values(), *c.others)
        lines += [f"| {' | '.join(map(_md, _cells(row)))} |" for row in shown]
        lines += ["", f"Judge: {_md(str(c.settings.answers.judge))}; prompts: {_md(str(c.settings.prompts.data))}; "]
        lines[-1] += f"transfer `{c.transfer}`."
        lines.append("")
    return "\n".join(lines)


def _md(text: str) -> str:
    for mark in "\\`*_|<>[]":
        text = text.replace(mark, f"\\{mark}")
    return text


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$", "\N{NO-BREAK SPACE}": "~",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)


def as_latex(rows: Book) -> str:
    """A `longtable` per run with rules of booktabs; needs the packages booktabs and longtable."""
    lines = ["% \\usepackage{booktabs,longtable}"]
    for run in rows.runs:
        c = run.content
        head = " & ".join(_tex(h) for h in _HEADINGS)
        caption = _tex(f"{c.model['name']}: refusal with and without ablation; prompts {c.settings.prompts.data}, "
                       f"judge {c.settings.answers.judge}; transfer {c.transfer[:12]}.")  # fmt: skip
        lines += [r"\begin{longtable}{llrrrrrl}", rf"\caption{{{caption}}}\\", r"\toprule", rf"{head} \\", r"\midrule"]
        lines += [r"\endhead", r"\bottomrule", r"\endfoot"]
        for target in c.targets:
            calm = [c.harmless[target]] if target in c.harmless else []
            lines += [" & ".join(map(_tex, _cells(row))) + r" \\" for row in (*c.of(target), *calm)]
        lines += [r"\end{longtable}", ""]
    return "\n".join(lines)
