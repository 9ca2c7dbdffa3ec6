"""A report's rows as CSV tables. What was not measured has no number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from refusalctl.data.records import OUTCOMES
from refusalctl.steps.report_rows import Choice, Condition, Missing

RATE_COLUMNS = (
    "target", "prompts", "condition", "source", "status", "n", *OUTCOMES, "labelled",
    "refusal_rate", "refusal_low", "refusal_high", "compliance_rate", "compliance_low", "compliance_high",
    "degenerate_rate", "paired_n", "refusal_to_compliance", "compliance_to_refusal", "to_degenerate",
    "paired_unparsed", "net_removed", "labels", "completions", "transfer", "reason",
)  # fmt: skip
CANDIDATE_COLUMNS = (
    "lang", "pos", "token", "layer", "bypass", "induce", "kl", "passes", "chosen", "bootstrap_share", "selection"
)  # fmt: skip


def rate_row(row: Condition | Missing, transfer: str) -> dict[str, object]:
    """One line of rates.csv. What was not measured has no number."""
    known: dict[str, object] = {"target": row.target, "condition": row.condition, "source": row.source or ""}
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
        known["net_removed"] = _number(moved.net)
    return known


def candidate_rows(found: Choice) -> list[dict[str, object]]:
    return [
        {
            "lang": found.lang, "pos": c.pos, "token": repr(c.token), "layer": c.layer, "bypass": _number(c.bypass),
            "induce": _number(c.induce), "kl": _number(c.kl), "passes": str(c.passes).lower(),
            "chosen": str(c.chosen).lower(), "bootstrap_share": "" if c.share is None else _number(c.share),
            "selection": found.artifact,
        }
        for c in found.candidates
    ]  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.6g}"


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
