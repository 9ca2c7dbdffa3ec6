"""A transfer as rows and sentences, for terminals and notebooks."""

from __future__ import annotations

from typing import Any

from refusalctl.stats.rates import Rate
from refusalctl.steps.transfer import read_transfer
from refusalctl.store.store import Artifact


def cell_rows(transfer: Artifact) -> list[dict[str, object]]:
    """One row per target, source and condition; what was not measured is None."""
    rows: list[dict[str, object]] = []
    for cell in read_transfer(transfer)["cells"]:
        counts = cell["counts"]
        labelled = cell["n"] - counts.get("unparsed", 0)
        rate = Rate(counts.get("refusal", 0), labelled, counts.get("unparsed", 0)) if labelled else None
        flips = cell.get("flips")
        verdicts = cell.get("verdict") or {}
        removal, induction = verdicts.get("removal"), verdicts.get("induction")
        limits = removal["interval95"] if removal else (None, None)
        rows.append(
            {
                "target": cell["target"],
                "source": cell["source"],
                "condition": cell["condition"],
                "dose": cell.get("coeff"),
                "draw": cell.get("draw"),
                "labelled": labelled,
                "refusal": rate.value if rate else None,
                "low": rate.wilson().low if rate else None,
                "high": rate.wilson().high if rate else None,
                "degenerate": counts.get("degenerate", 0),
                "removed": flips["removed"] if flips else None,
                "gained": flips["gained"] if flips else None,
                "removal": removal["value"] if removal else None,
                "removal_share": removal["removed"] if removal else None,
                "removal_low": limits[0],
                "removal_high": limits[1],
                "induction": induction["value"] if induction else None,
            }
        )
    return rows


def verdict_of(transfer: Artifact, source: str, target: str, question: str) -> str | None:
    """A cell's verdict; None where it has none."""
    for cell in read_transfer(transfer)["cells"]:
        verdict = (cell.get("verdict") or {}).get(question)
        if verdict is not None and (cell["source"], cell["target"]) == (source, target):
            return str(verdict["value"])
    return None


def sentences(transfer: Artifact) -> list[str]:
    """One sentence per target: baseline, each direction's verdict with its reason, what n can show."""
    value = read_transfer(transfer)
    return [_sentence(value, target) for target in value["targets"]]


def _sentence(value: dict[str, Any], target: str) -> str:
    facts = value["targets"][target]
    told = [f"{target}: refuses {facts['refused']} of {facts['n']} harmful prompts at baseline"]
    for cell in value["cells"]:
        for question, verdict in (cell.get("verdict") or {}).items():
            if cell["target"] == target and verdict is not None and isinstance(verdict, dict):
                done = "ablated" if question == "removal" else "added"
                told.append(f"{cell['source']} direction {done}: {verdict['value']} ({verdict['reason']})")
    least = facts["detectable"]
    told.append(
        f"{facts['n']} prompts show a removal of {least:.0%} or more with 80 % power"
        if least
        else f"{facts['n']} prompts are too few to show any removal above the margin with 80 % power"
    )
    return "; ".join(told)
