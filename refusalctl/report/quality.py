"""What a reader needs in order to trust a run: how answers were labelled, and what the tool checked while it ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from refusalctl.errors import StoreError
from refusalctl.records.rows import Label
from refusalctl.records.transfer import TransferCell
from refusalctl.report.content import Content
from refusalctl.report.provenance import Provenance
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.store.store import Artifact, Store


@dataclass(frozen=True)
class LabelSummary:
    """How the answers of one target and condition group were labelled; `reasons` counts (outcome, reason).

    `off_language` of `language_known` answers are in another language; `harmful` of `harm_known` were judged harmful.
    """

    target: str
    group: str
    n: int
    reasons: Mapping[tuple[str, str], int]
    truncated: int
    off_language: int
    language_known: int
    harmful: int
    harm_known: int

    def why(self, outcome: str) -> list[tuple[str, int]]:
        """Reasons of one outcome, most frequent first."""
        found = [(reason or "no reason given", n) for (o, reason), n in self.reasons.items() if o == outcome]
        return sorted(found, key=lambda row: (-row[1], row[0]))


class Check(NamedTuple):
    """Largest relative projection left after ablation, over `n` runs; None where no run recorded one."""

    n: int
    unread: int
    hooks_fired: int
    worst: float | None


@dataclass(frozen=True)
class Quality:
    judged: tuple[LabelSummary, ...]
    ablation: Check


def quality(store: Store, rows: Content, found: Provenance) -> Quality:
    """Read every label and run record behind the rows of one transfer."""
    judged = []
    for target in rows.targets:
        groups: dict[str, list[Label]] = {"baseline": [], "under a direction": [], "harmless, baseline": []}
        for row in rows.of(target):
            if isinstance(row, TransferCell):
                group = "baseline" if row.condition == "baseline" else "under a direction"
                groups[group] += read_labels(found.by_id[row.labels])
        if target in rows.harmless:
            groups["harmless, baseline"] = read_labels(found.by_id[rows.harmless[target].labels])
        judged += [_count(target, group, labels) for group, labels in groups.items() if labels]
    return Quality(tuple(judged), _check(store, [a for a in rows.sources if a.kind == "completions"]))


def _count(target: str, group: str, labels: list[Label]) -> LabelSummary:
    reasons: Counter[tuple[str, str]] = Counter((label.outcome, label.reason) for label in labels)
    tongue = [label.off_language for label in labels if label.off_language is not None]
    harm = [label.harmful for label in labels if label.harmful is not None]
    cut = sum(label.truncated is True for label in labels)
    return LabelSummary(target, group, len(labels), dict(reasons), cut, sum(tongue), len(tongue), sum(harm), len(harm))


def _check(store: Store, completions: list[Artifact]) -> Check:
    fired, worst, unread, n = 0, None, 0, 0
    for each in completions:
        if each.about.get("intervention") not in ("ablate", "affine", "subspace"):
            continue
        n += 1
        try:
            checks = store.run_info(each).get("checks", {})
        except StoreError:
            unread += 1
            continue
        fired += checks.get("hooks_fired") or 0
        left = checks.get("max_relative_projection")
        worst = max((v for v in (worst, left) if v is not None), default=None)
    return Check(n, unread, fired, worst)
