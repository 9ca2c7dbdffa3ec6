"""Effects of a cost panel: what was measured under an intervention beside the baseline, on the same items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from refusalctl.errors import BadInput
from refusalctl.records.cost import CostEffect, Measure
from refusalctl.records.cost_rows import BenchmarkItem
from refusalctl.records.estimates import Interval
from refusalctl.stats.paired import Moves, interval, mcnemar_p, moves
from refusalctl.stats.ratios import Unit, changed_ratio, mean_limits
from refusalctl.steps.completions import read_completions
from refusalctl.steps.costs.benchmark import read_items
from refusalctl.steps.costs.drift import read_drift
from refusalctl.steps.costs.losses import read_losses
from refusalctl.steps.counts import judged_outcomes
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.store.store import Artifact

Outcomes = dict[str, str]


class Asked(msgspec.Struct, frozen=True):
    """One comparison, as the recipe holds it: `before` and `after` are inputs by these numbers. `phrases`: an answer
    that holds one of these shows the behaviour; None: a judge's refusals do."""

    arm: str
    dose: float
    measure: Measure
    name: str
    lang: str | None = None
    phrases: tuple[str, ...] | None = None


def effects_of(asked: Asked, before: Artifact | None, after: Artifact) -> Iterator[CostEffect]:
    """What the pair says: one effect, or several of one measurement (per token and per byte, per metric)."""
    empty = CostEffect(
        arm=asked.arm,
        dose=asked.dose,
        measure=asked.measure,
        name=asked.name,
        lang=asked.lang,
        unit="share",
        n=0,
        baseline=None if before is None else before.id,
        changed=after.id,
    )
    if before is None:
        yield _drift(empty, after)
        return
    known: dict[Measure, Callable[[CostEffect, Artifact, Artifact], Iterator[CostEffect]]] = {
        "removal": _removal,
        "safe": _refused,
        "unsafe": _refused,
        "off-target": partial(_shown, asked.phrases) if asked.phrases is not None else _refused,
        "text": _losses,
        "own": _losses,
        "task": _items,
    }
    yield from known[asked.measure](empty, before, after)


# --- shares ------------------------------------------------------------------------------------------------


def _removal(empty: CostEffect, before: Artifact, after: Artifact) -> Iterator[CostEffect]:
    """Net share of prompts that went from refusal to compliance, as verdicts count it; beside it refusal rates."""
    sides = [judged_outcomes(each) for each in (before, after)]
    found = moves(sides[0], sides[1], clusters=_clusters(before))
    yield _moved(empty, found, sides, "refusal")


def _refused(empty: CostEffect, before: Artifact, after: Artifact) -> Iterator[CostEffect]:
    """Share that is refused; a gain is a cost for safe prompts."""
    sides = [{i: _as_two(o, o == "refusal") for i, o in judged_outcomes(each).items()} for each in (before, after)]
    yield _gained(empty, sides, _clusters(before))


def _shown(phrases: Sequence[str], empty: CostEffect, before: Artifact, after: Artifact) -> Iterator[CostEffect]:
    """Share of answers that hold one of the phrases, case aside."""
    wanted = [phrase.casefold() for phrase in phrases]
    sides = []
    for each in (before, after):
        texts = {row.prompt_id: row.text.casefold() for row in read_completions(each)}
        sides.append({i: _as_two("", any(phrase in text for phrase in wanted)) for i, text in texts.items()})
    yield _gained(empty, sides, {row.prompt_id: row.cluster for row in read_completions(before)})


def _as_two(outcome: str, has: bool) -> str:
    return "unparsed" if outcome == "unparsed" else "yes" if has else "no"


def _gained(empty: CostEffect, sides: Sequence[Outcomes], clusters: Mapping[str, str] | None) -> CostEffect:
    """Items that have now what is counted and had it not before, minus those the other way."""
    found = moves(sides[0], sides[1], "no", "yes", clusters)
    return _moved(empty, found, sides, "yes")


def _moved(empty: CostEffect, found: Moves, sides: Sequence[Outcomes], counted: str) -> CostEffect:
    """Limits take every missing label against either end. Where a condition has no label at all there is no number."""
    shares = [_share(side, counted) for side in sides]
    missing = sum("unparsed" in (sides[0][i], sides[1][i]) for i in sides[0])
    if None in shares:
        why = "no answer of one of both conditions has a label"
        return replace(empty, n=int(found.n), before=shares[0], after=shares[1], missing=missing, why=why)
    return replace(
        empty,
        n=int(found.n),
        before=shares[0],
        after=shares[1],
        difference=found.difference,
        interval95=Interval(interval(found.least()).low, interval(found.most()).high),
        forth=int(found.forth),
        back=int(found.back),
        p=mcnemar_p(found),
        missing=missing,
    )


def _share(outcomes: Mapping[str, str], counted: str) -> float | None:
    known = [outcome for outcome in outcomes.values() if outcome != "unparsed"]
    return known.count(counted) / len(known) if known else None


def _clusters(labels: Artifact) -> dict[str, str]:
    return {label.prompt_id: label.cluster for label in read_labels(labels) if label.cluster}


# --- numbers -----------------------------------------------------------------------------------------------


def _drift(empty: CostEffect, after: Artifact) -> CostEffect:
    """Mean KL over prompts; the baseline's is 0 by what it is, so there is no number before."""
    rows = read_drift(after)
    mean = sum(row.kl for row in rows) / len(rows)
    limits = mean_limits([row.kl for row in rows], least=0.0)
    return replace(empty, unit="nats", n=len(rows), after=mean, difference=mean, interval95=limits)


def _losses(empty: CostEffect, before: Artifact, after: Artifact) -> Iterator[CostEffect]:
    """Nats per token, and per byte, which tokenizers and scripts share; documents weigh by their size."""
    first, second = ({row.id: row for row in read_losses(each)} for each in (before, after))
    _same_items(
        empty, {i: (r.tokens, r.bytes) for i, r in first.items()}, {i: (r.tokens, r.bytes) for i, r in second.items()}
    )
    clusters = {i: row.cluster for i, row in first.items()}
    for unit in ("token", "byte"):
        units = {i: Unit(r.nats, second[i].nats, getattr(r, f"{unit}s")) for i, r in first.items() if r.tokens}
        if not units:
            yield replace(empty, unit=f"nats/{unit}", n=0, why="no text holds a token")
            continue
        found = changed_ratio(units, clusters)
        yield replace(
            empty,
            unit=f"nats/{unit}",
            n=found.n,
            before=found.before,
            after=found.after,
            difference=found.difference,
            interval95=found.interval95,
        )


def _items(empty: CostEffect, before: Artifact, after: Artifact) -> Iterator[CostEffect]:
    """Every metric of every task and filter. Raises `BadInput` where items differ by lm-eval's hashes."""
    first, second = ({(r.task, r.filter, r.item): r for r in read_items(each)} for each in (before, after))
    _same_items(empty, {k: _hashes(r) for k, r in first.items()}, {k: _hashes(r) for k, r in second.items()})
    for series in _series(first.values()):
        mine = {key[2]: key for key in first if key[:2] == (series.task, series.filter)}
        scores = {
            item: (first[key].metrics[series.metric], second[key].metrics.get(series.metric))
            for item, key in mine.items()
            if series.metric in first[key].metrics
        }
        named = replace(empty, name=series.label)
        if any(after is None for _, after in scores.values()):
            yield replace(named, unit="score", why="an item has this score in one of both conditions only")
        elif {value for pair in scores.values() for value in pair} <= {0.0, 1.0}:
            sides = [{i: _as_two("", pair[side] == 1.0) for i, pair in scores.items()} for side in (0, 1)]
            yield _gained(named, sides, None)
        else:
            yield _scored(named, scores)


def _scored(named: CostEffect, scores: Mapping[str, tuple[float, Any]]) -> CostEffect:
    found = changed_ratio({item: Unit(a, b) for item, (a, b) in scores.items()})
    return replace(
        named,
        unit="score",
        n=found.n,
        before=found.before,
        after=found.after,
        difference=found.difference,
        interval95=found.interval95,
    )


class _Series(NamedTuple):
    task: str
    filter: str
    metric: str

    @property
    def label(self) -> str:
        """`task metric`, and the filter where it is not lm-eval's own name for none."""
        return f"{self.task} {self.metric}" + ("" if self.filter == "none" else f" ({self.filter})")


def _series(rows: Any) -> list[_Series]:
    return list(dict.fromkeys(_Series(row.task, row.filter, metric) for row in rows for metric in row.metrics))


def _hashes(row: BenchmarkItem) -> tuple[str, str, str]:
    return row.doc, row.prompt, row.target


def _same_items(empty: CostEffect, before: Mapping[Any, Any], after: Mapping[Any, Any]) -> None:
    """Raise `BadInput` unless both conditions hold the same items, told by what identifies them."""
    both = before.keys() & after.keys()
    other = sum(before[key] != after[key] for key in both)
    if before.keys() != after.keys() or other or not both:
        raise BadInput(
            f"{empty.measure} {empty.name}: the baseline and {empty.arm} at dose {empty.dose:g} are not of the same "
            f"items: {len(before)} and {len(after)}, {len(both)} in both, {other} of these with other content",
            hint="a task whose items or few-shot examples change between runs cannot be paired: give it a fixed seed",
        )
