"""A report's rows as CSV, Markdown and LaTeX. What was not measured has no number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import asdict

from refusalctl.data.languages import name as language_name
from refusalctl.records.report import Report, ReportedRun
from refusalctl.records.transfer import MissingCell, OutcomeCounts, TransferCell
from refusalctl.records.verdict import Verdict
from refusalctl.report.book import Book, Run
from refusalctl.report.content import Choice, Row
from refusalctl.report.cost_words import effect_row, in_order
from refusalctl.report.words import answer, condition_name, detail, points, signed

RATE_COLUMNS = (
    "model", "target", "prompts", "condition", "source", "status", "n", *OutcomeCounts.__struct_fields__, "labelled",
    "refusal_rate", "refusal_low", "refusal_high", "compliance_rate", "compliance_low", "compliance_high",
    "degenerate_rate", "paired_n", "refusal_to_compliance", "compliance_to_refusal", "to_degenerate", "to_off_language",
    "paired_unparsed", "net_removed", "verdict", "verdict_reason", "removed", "removed_low", "removed_high",
    "least_removed", "most_removed", "lost", "room_low", "room_high", "room_back_low", "room_back_high",
    "p_controls", "p_controls_reverse",
    "prompts_needed", "zero_place",
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
COST_COLUMNS = (
    "model", "arm", "dose", "measure", "name", "lang", "unit", "n", "before", "after", "difference", "low", "high",
    "forth", "back", "p", "missing", "why", "cost",
)  # fmt: skip
EXCLUDED_COLUMNS = ("model", "split", "kind", "prompt_id", "reason", "langs")


def rate_row(row: Row, transfer: str, model: str = "") -> dict[str, object]:
    """One line of rates.csv. What was not measured has no number."""
    told = detail(row)
    line: dict[str, object] = {
        "model": model,
        "target": row.target,
        "condition": f"{row.condition} ({told})" if told else row.condition,
        "source": row.source or "",
        "transfer": transfer,
    }
    if isinstance(row, MissingCell):
        return line | {"prompts": "harmful", "status": row.status, "reason": row.reason}
    line |= {"prompts": row.prompts, "status": "measured", "n": row.n, "labels": row.labels}
    line |= {"completions": row.completions or "", "labelled": row.counts.labelled, **asdict(row.counts)}
    for outcome, rate in (("refusal", row.refusal), ("compliance", row.compliance)):
        if rate is not None:
            low, high = rate.interval95
            line |= {f"{outcome}_rate": _number(rate.value), f"{outcome}_low": _number(low)}
            line |= {f"{outcome}_high": _number(high)}
    if row.degenerate is not None:
        line["degenerate_rate"] = _number(row.degenerate.value)
    if (moved := row.flips) is not None:
        line |= {"paired_n": moved.n, "refusal_to_compliance": moved.removed, "compliance_to_refusal": moved.gained}
        line |= {"to_degenerate": moved.to_degenerate, "to_off_language": moved.to_off_language}
        line |= {"paired_unparsed": moved.unparsed, "net_removed": _number(moved.net)}
    if (verdict := row.removal) is not None:
        line |= {"verdict": verdict.value, "verdict_reason": verdict.reason, "removed": _number(verdict.removed)}
        line |= {"removed_low": _number(verdict.interval95.low), "removed_high": _number(verdict.interval95.high)}
        line |= _against(verdict)
    if row.zero is not None:
        line["zero_place"] = _known(row.zero.place)
    return line


def _against(verdict: Verdict) -> dict[str, object]:
    """What a verdict rests on beside the share removed."""
    line: dict[str, object] = {"least_removed": _known(verdict.least), "most_removed": _known(verdict.most)}
    line |= {"lost": "" if verdict.lost is None else verdict.lost}
    for name, room in (("room", verdict.headroom95), ("room_back", verdict.headroom_back95)):
        if room is not None:
            line |= {f"{name}_low": _number(room.low), f"{name}_high": _number(room.high)}
    line |= {"p_controls": _known(verdict.p_null), "p_controls_reverse": _known(verdict.p_reverse)}
    return line | {"prompts_needed": "" if verdict.n_needed is None else verdict.n_needed}


def candidate_rows(found: Choice) -> list[dict[str, object]]:
    return [
        {
            "lang": found.lang,
            "pos": c.pos,
            "token": repr(c.token),
            "layer": c.layer,
            "bypass": _number(c.bypass),
            "induce": _number(c.induce),
            "kl": _number(c.kl),
            "passes": "" if c.passes is None else str(c.passes).lower(),
            "chosen": str(c.chosen).lower(),
            "bootstrap_share": "" if c.share is None else _number(c.share),
            "selection": found.artifact,
        }
        for c in found.candidates
    ]


def _number(value: float) -> str:
    return "" if value != value else f"{value:.6g}"  # NaN: not measured


def _known(value: float | None) -> str:
    return "" if value is None else _number(value)


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# --- whole tables ------------------------------------------------------------------------------------


def rates_csv(rows: Book) -> str:
    """A line per model and condition: harmful conditions, harmless baselines, controls."""
    lines = (rate_row(row, run.content.transfer, run.content.label) for run in rows.runs for row in run.content.rows)
    return as_csv(RATE_COLUMNS, lines)


def candidates_csv(rows: Book) -> str:
    found = (
        {"model": run.content.label, **line}
        for run in rows.runs
        for choice in run.content.choices.values()
        for line in candidate_rows(choice)
    )
    return as_csv(CANDIDATE_COLUMNS, found)


def geometry_csv(rows: Book) -> str:
    """A line per pair of languages and place."""
    lines: list[dict[str, object]] = []
    for run in rows.runs:
        for name, site in (run.geometry.sites.by_name() if run.geometry else {}).items():
            known = {"model": run.content.label, "site": name, "pos": site.pos, "layer": site.layer}
            for pair in site.pairs:
                numbers = {k: _number(v) for k, v in asdict(pair).items() if isinstance(v, float)}
                angles = " ".join(_number(a) for a in pair.angles)
                lines.append(
                    {**known, "a": pair.a, "b": pair.b, **numbers, "angles": angles, "geometry": run.geometry_id}
                )
    return as_csv(GEOMETRY_COLUMNS, lines)


def cost_csv(rows: Book) -> str:
    """A line per measurement of every cost panel."""
    lines = [
        {k: _number(v) if isinstance(v, float) else v for k, v in effect_row(effect).items() if v is not None}
        | {"model": run.content.label, "cost": panel.id}
        for run in rows.runs
        for panel in run.costs
        for effect in in_order(panel.record.effects)
    ]
    return as_csv(COST_COLUMNS, lines)


def excluded_csv(rows: Book) -> str:
    lines = [
        {
            "model": run.content.label,
            "split": e.split,
            "kind": e.kind,
            "prompt_id": e.id,
            "reason": e.reason,
            "langs": " ".join(e.langs),
        }
        for run in rows.runs
        for e in run.excluded
    ]
    return as_csv(EXCLUDED_COLUMNS, lines)


def as_record(rows: Book) -> Report:
    """Every number of the page; what was not measured is None."""
    return Report(rows.reference, tuple(_reported(run, rows.reference) for run in rows.runs))


def _reported(run: Run, reference: str) -> ReportedRun:
    c = run.content
    return ReportedRun(
        transfer=c.transfer,
        geometry=run.geometry_id,
        model=c.model,
        settings=c.record.settings,
        answers={target: answer(c, target, reference) for target in c.targets},
        cells=tuple(row for row in c.rows if isinstance(row, TransferCell)),
        missing=tuple(row for row in c.rows if isinstance(row, MissingCell)),
        excluded=run.excluded,
        no_direction=dict(c.no_direction),
        costs={panel.id: panel.record.effects for panel in run.costs},
    )


_HEADINGS = ("Target", "Condition", "n", "Refusal, %", "95 %", "Compliance, %", "Removed, points", "Verdict")


def _cells(row: Row) -> list[str]:
    names = [language_name(row.target), condition_name(row)]
    if isinstance(row, MissingCell):
        return [*names, "", row.status, "", "", "", ""]
    rate, complied = row.refusal, row.compliance
    if rate is None or complied is None:
        return [*names, str(row.n), "no label", "", "", "", ""]
    low, high = rate.interval95
    limits = f"{points(low)}–{points(high)}"
    return [
        *names,
        str(rate.n),
        points(rate.value),
        limits,
        points(complied.value),
        signed(row.flips.net) if row.flips else "",
        row.removal.value if row.removal else "",
    ]


def as_markdown(rows: Book) -> str:
    """Answers and rates as GitHub-flavoured Markdown."""
    lines = ["# Refusal across languages", ""]
    for run in rows.runs:
        c = run.content
        lines += [f"## {_md(c.label)}", ""]
        sentences = [answer(c, target, rows.reference).sentence for target in c.targets]
        lines += [f"- {_md(sentence)}" for sentence in sentences if sentence]
        lines += [f"- {_md(text)}" for panel in run.costs for text in panel.lines.values()]
        lines += ["", f"| {' | '.join(_HEADINGS)} |", "|---|---|--:|--:|--:|--:|--:|---|"]
        lines += [f"| {' | '.join(map(_md, _cells(row)))} |" for row in c.rows]
        lines += ["", f"Judge: {_md(str(c.settings.answers.judge))}; prompts: {_md(str(c.settings.prompts.data))}; "]
        lines[-1] += f"transfer `{c.transfer}`."
        lines.append("")
    return "\n".join(lines)


def _md(text: str) -> str:
    for mark in "\\`*_|<>[]":
        text = text.replace(mark, f"\\{mark}")
    return text


_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "\N{NO-BREAK SPACE}": "~",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)


def as_latex(rows: Book) -> str:
    """A `longtable` per run with rules of booktabs; needs the packages booktabs and longtable."""
    lines = ["% \\usepackage{booktabs,longtable}"]
    for run in rows.runs:
        c = run.content
        head = " & ".join(_tex(h) for h in _HEADINGS)
        caption = _tex(
            f"{c.label}: refusal with and without ablation; prompts {c.settings.prompts.data}, "
            f"judge {c.settings.answers.judge}; transfer {c.transfer[:12]}."
        )
        lines += [r"\begin{longtable}{llrrrrrl}", rf"\caption{{{caption}}}\\", r"\toprule", rf"{head} \\", r"\midrule"]
        lines += [r"\endhead", r"\bottomrule", r"\endfoot"]
        for target in c.targets:
            calm = [c.harmless[target]] if target in c.harmless else []
            lines += [" & ".join(map(_tex, _cells(row))) + r" \\" for row in (*c.of(target), *calm)]
        lines += [r"\end{longtable}", ""]
    return "\n".join(lines)
