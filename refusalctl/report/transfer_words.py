"""A transfer as rows and sentences, for terminals and notebooks."""

from __future__ import annotations

from refusalctl.errors import BadInput
from refusalctl.records.calibration import QUESTIONS
from refusalctl.records.transfer import Transfer, TransferCell
from refusalctl.steps.transfer import read_transfer
from refusalctl.store.store import Artifact


def cell_rows(transfer: Artifact) -> list[dict[str, object]]:
    """One row per target, source and condition; what was not measured is None."""
    return [_row(cell) for cell in read_transfer(transfer).cells]


def _row(cell: TransferCell) -> dict[str, object]:
    rate, flips, removal, induction = cell.refusal, cell.flips, cell.removal, cell.induction
    return {
        "target": cell.target,
        "source": cell.source,
        "condition": cell.condition,
        "dose": cell.coeff,
        "draw": cell.draw,
        "labelled": cell.counts.labelled,
        "refusal": rate.value if rate else None,
        "low": rate.interval95.low if rate else None,
        "high": rate.interval95.high if rate else None,
        "degenerate": cell.counts.degenerate,
        "removed": flips.removed if flips else None,
        "gained": flips.gained if flips else None,
        "removal": removal.value if removal else None,
        "removal_share": removal.removed if removal else None,
        "removal_low": removal.interval95.low if removal else None,
        "removal_high": removal.interval95.high if removal else None,
        "removal_least": removal.least if removal else None,
        "removal_most": removal.most if removal else None,
        "lost": removal.lost if removal else None,
        "induction": induction.value if induction else None,
    }


def verdict_of(transfer: Artifact, source: str, target: str, question: str) -> str | None:
    """A cell's verdict; None where it has none. Raises `BadInput` for a question that is none."""
    if question not in QUESTIONS:
        raise BadInput(f"there is no verdict on {question!r}", hint=f"choose {' or '.join(QUESTIONS)}")
    cell = read_transfer(transfer).ablation(source, target)
    verdict = cell and (cell.removal if question == "removal" else cell.induction)
    return verdict.value if verdict else None


def sentences(transfer: Artifact) -> list[str]:
    """One sentence per target: baseline, each direction's verdict with its reason, what n can show."""
    record = read_transfer(transfer)
    return [_sentence(record, target) for target in record.targets] + _of_imported(record)


def _of_imported(record: Transfer) -> list[str]:
    """What labels from elsewhere lack, and which of them could not be paired."""
    if record.imported is None:
        return []
    lacking = [
        f"missing: {each.what}{f' of {chr(44).join(each.targets)}' if each.targets else ''}: {each.follows}"
        for each in record.imported.lacking
    ]
    return lacking + [f"not paired: {e.target} {e.condition}: {e.reason}" for e in record.imported.unpaired]


def _sentence(record: Transfer, target: str) -> str:
    facts = record.targets[target]
    parts = [f"{target}: refuses {facts.refused} of {facts.n} harmful prompts at baseline"]
    for cell in record.cells:
        if cell.target == target:
            how = "ablated around the harmless mean" if cell.condition == "affine" else "ablated"
            for done, verdict in ((how, cell.removal), ("added", cell.induction)):
                if verdict is not None:
                    parts.append(f"{cell.source} direction {done}: {verdict.value} ({verdict.reason})")
    if facts.detectable is None:
        parts.append(f"{facts.n} prompts are too few to show any removal above the margin with 80 % power")
    else:
        parts.append(f"{facts.n} prompts show a removal of {facts.detectable:.0%} or more with 80 % power")
    return "; ".join(parts)
