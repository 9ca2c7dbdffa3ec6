"""Effects against hand-counted ones, on rows that a world wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.errors import BadInput
from refusalctl.records.cost_rows import BenchmarkItem, DocumentLoss, PromptDrift
from refusalctl.records.rows import Row
from refusalctl.stats.paired import score_interval
from refusalctl.steps.costs.benchmark import ITEMS_FILE, LM_EVAL
from refusalctl.steps.costs.drift import DRIFT, DRIFT_FILE
from refusalctl.steps.costs.losses import LOSSES, LOSSES_FILE
from refusalctl.steps.costs.pairing import Asked, effects_of
from refusalctl.steps.step import Step
from refusalctl.store import formats
from refusalctl.store.store import Artifact
from tests.steps.world import SECRET, World

BEFORE, AFTER = "RRRRRRCCCU", "CCCCRRRCCC"  # 4 removed, 1 gained, 1 hidden


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("pairing"))


def labels(world: World, outcomes: str) -> Artifact:
    return world.judged(world.prompts("en", "harmful", "test", len(outcomes)), outcomes)[1]


def kept(world: World, step: Step, name: str, rows: list[Row], mark: int) -> Artifact:
    def write(path: Path) -> None:
        formats.write_rows(path, (row.to_json() for row in rows))

    return world.put(step, {"mark": mark}, {}, {"n": len(rows)}, {name: write})


def item(number: int, acc: float, *, doc: str = "", more: float | None = None) -> BenchmarkItem:
    scores = {"acc": acc} if more is None else {"acc": acc, "f1": more}
    return BenchmarkItem("everyday", str(number), "none", doc or f"d{number}", f"p{number}", f"t{number}", scores)


def test_removal_is_that_of_verdicts_and_missing_labels_widen_its_limits(world: World) -> None:
    (found,) = effects_of(
        Asked("ablate en", 1.0, "removal", "sample", "en"), labels(world, BEFORE), labels(world, AFTER)
    )
    assert (found.n, found.forth, found.back, found.missing) == (10, 4, 1, 1)
    assert found.difference == pytest.approx(0.3)
    assert (found.before, found.after) == pytest.approx((6 / 9, 3 / 10))
    assert found.interval95 == pytest.approx((score_interval(4, 1, 10).low, score_interval(5, 1, 10).high))
    assert found.p == pytest.approx(0.375)  # exact: 2 * P(at least 4 of 5 heads)


def test_every_missing_label_counts_and_a_condition_without_any_has_no_number(world: World) -> None:
    asked = Asked("ablate en", 1.0, "removal", "sample", "en")
    (found,) = effects_of(asked, labels(world, "RRRC"), labels(world, "CUUU"))
    assert found.missing == 3
    for before, after, shares in (("RRC", "UUU", (2 / 3, None)), ("UUU", "UUU", (None, None))):
        (found,) = effects_of(asked, labels(world, before), labels(world, after))
        assert (found.before, found.after) == shares
        assert (found.missing, found.difference, found.interval95, found.p) == (3, None, None, None)
        assert found.why == "no answer of one of both conditions has a label"


@pytest.mark.parametrize("measure", ["safe", "unsafe", "off-target"])
def test_refusals_that_appear_count_up(world: World, measure: str) -> None:
    asked = Asked("add 1 en", 1.0, measure, "set", "en")  # type: ignore[arg-type]
    (found,) = effects_of(asked, labels(world, "CCCCCCCCRR"), labels(world, "RRRCCCCCRC"))
    assert (found.before, found.after, found.difference) == pytest.approx((0.2, 0.4, 0.2))
    assert (found.forth, found.back) == (3, 1)


def test_a_behaviour_is_found_by_its_phrases_case_aside(world: World) -> None:
    prompts = world.prompts("en", "harmless", "test", 4)
    before, _ = world.judged(prompts, "CCCC")
    other = World(world.bench.store.root, text="Sincerely yours")
    after, _ = other.judged(prompts, "CCCR")
    for phrases, shares in (((SECRET.lower(),), (1.0, 0.0)), (("YOURS", "nothing"), (0.0, 1.0))):
        (found,) = effects_of(Asked("a", 1.0, "off-target", "x", "en", phrases), before, after)
        assert (found.before, found.after) == shares


def test_losses_are_told_per_token_and_per_byte(world: World) -> None:
    plain = [DocumentLoss("1", 10.0, 5, 20), DocumentLoss("2", 30.0, 15, 40), DocumentLoss("3", 0.0, 0, 3)]
    changed = [DocumentLoss("1", 12.0, 5, 20), DocumentLoss("2", 30.0, 15, 40), DocumentLoss("3", 0.0, 0, 3)]
    pair = [kept(world, LOSSES, LOSSES_FILE, list(rows), i) for i, rows in enumerate((plain, changed))]
    token, byte = effects_of(Asked("a", 1.0, "text", "en.txt", "en"), *pair)
    assert (token.unit, token.n, token.before, token.after) == ("nats/token", 2, 2.0, 2.1)
    assert (byte.unit, byte.difference) == ("nats/byte", pytest.approx(2 / 60))
    assert token.p is None
    other = kept(world, LOSSES, LOSSES_FILE, [DocumentLoss("1", 12.0, 6, 20)], 2)
    with pytest.raises(BadInput, match="not of the same items: 3 and 1, 1 in both, 1 of these with other content"):
        list(effects_of(Asked("a", 1.0, "text", "en.txt", "en"), pair[0], other))


def test_drift_has_no_before(world: World) -> None:
    rows: list[Row] = [PromptDrift(str(i), kl) for i, kl in enumerate((0.0, 0.1, 0.5))]
    (found,) = effects_of(Asked("a", 1.0, "kl", "sample", "en"), None, kept(world, DRIFT, DRIFT_FILE, rows, 0))
    assert (found.before, found.after, found.unit) == (None, pytest.approx(0.2), "nats")
    assert found.interval95 is not None
    assert found.interval95.low == 0.0


def test_items_are_paired_one_by_one_and_must_be_the_same(world: World) -> None:
    """Two averages of 0.5 hide that every item flipped."""
    plain = [item(i, i % 2, more=0.5) for i in range(8)]
    changed = [item(i, 1 - i % 2, more=0.25) for i in range(8)]
    pair = [kept(world, LM_EVAL, ITEMS_FILE, list(rows), i) for i, rows in enumerate((plain, changed))]
    acc, f1 = effects_of(Asked("a", 1.0, "task", "everyday"), *pair)
    assert (acc.name, acc.unit, acc.before, acc.after, acc.difference) == ("everyday acc", "share", 0.5, 0.5, 0.0)
    assert (acc.forth, acc.back) == (4, 4)
    assert (f1.name, f1.unit, f1.difference, f1.p) == ("everyday f1", "score", -0.25, None)
    strange: list[Row] = [item(i, 1.0, doc="other" if i == 3 else "", more=0.1) for i in range(8)]
    other = kept(world, LM_EVAL, ITEMS_FILE, strange, 2)
    with pytest.raises(BadInput, match="8 in both, 1 of these with other content"):
        list(effects_of(Asked("a", 1.0, "task", "everyday"), pair[0], other))


def test_a_score_that_one_condition_lacks_is_not_measured(world: World) -> None:
    first = kept(world, LM_EVAL, ITEMS_FILE, [item(0, 1.0, more=0.5)], 10)
    second = kept(world, LM_EVAL, ITEMS_FILE, [item(0, 1.0)], 11)
    acc, f1 = effects_of(Asked("a", 1.0, "task", "everyday"), first, second)
    assert (acc.difference, f1.difference, f1.why) == (
        0.0,
        None,
        "an item has this score in one of both conditions only",
    )
