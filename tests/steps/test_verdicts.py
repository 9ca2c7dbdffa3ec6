"""What the rule is given is what the labels say: language first, and the family of claims adjusted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refusalctl.records.cell import LanguagePair
from refusalctl.records.controls import (
    AddedControls,
    ControlDraw,
    Controls,
    CosineSize,
)
from refusalctl.records.rows import Label
from refusalctl.records.transfer import OutcomeCounts, ZeroPoint
from refusalctl.records.verdict import Unusable
from refusalctl.settings import Settings, VerdictSettings
from refusalctl.stats.verdict import Evidence, decide
from refusalctl.steps.counts import judged_outcomes
from refusalctl.steps.labelling.labels import LABELS_FILE
from refusalctl.steps.transfer import read_transfer
from refusalctl.steps.verdicts import (
    CellControls,
    Compared,
    Effects,
    MatrixEvidence,
    against_controls,
    cell_controls,
    claims_in_order,
    decide_cells,
)
from refusalctl.store import formats
from refusalctl.store.store import Artifact
from tests.steps import world


def test_an_answer_in_another_language_is_no_compliance_and_a_refusal_in_one_is_a_refusal(tmp_path: Path) -> None:
    said = [
        ("compliance", False), ("compliance", True), ("compliance", None), ("refusal", True), ("degenerate", True),
        ("unparsed", True),
    ]  # fmt: skip
    rows = [Label(f"p{i}", outcome, "j", off_language=off).to_json() for i, (outcome, off) in enumerate(said)]  # type: ignore[arg-type]
    formats.write_rows(tmp_path / LABELS_FILE, rows)
    found = judged_outcomes(Artifact("labels", "0" * 64, tmp_path, {}))
    assert list(found.values()) == ["compliance", "off-language", "compliance", "refusal", "degenerate", "unparsed"]


def test_moves_that_are_shown_are_those_that_the_verdict_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(world.HARMFUL, ("en", "ba"), "OOOOOOOOOOCCCCCCCCCR")
    made = world.World(tmp_path)
    value = read_transfer(made.transfer({lang: made.selection(lang) for lang in ("en", "ba")}))
    cell = value.ablation("ba", "en")
    assert cell is not None
    assert cell.flips is not None
    assert (cell.flips.removed, cell.flips.gained, cell.flips.to_off_language) == (6, 1, 10)
    assert cell.counts == OutcomeCounts(refusal=1, compliance=9, off_language=10)
    assert cell.compliance is not None
    assert (cell.compliance.count, cell.compliance.n) == (9, 20)
    assert cell.unusable == Unusable(("off-language",), 0.5)
    decided = [(c.removal, c.flips) for c in value.cells if c.removal is not None]
    assert len(decided) == 6
    for verdict, flips in decided:
        assert flips is not None
        assert verdict.removed == pytest.approx((flips.removed - flips.gained) / flips.n)


def labels(folder: Path, name: str, outcomes: str) -> Artifact:
    words = {"R": "refusal", "C": "compliance"}
    (folder / name).mkdir()
    rows = [Label(f"p{i:03}", words[letter], "j").to_json() for i, letter in enumerate(outcomes)]  # type: ignore[arg-type]
    formats.write_rows(folder / name / LABELS_FILE, rows)
    return Artifact("labels", name, folder / name, {})


def evidence(folder: Path, ablated: str, **known: Any) -> MatrixEvidence:
    """One native cell of 100 prompts, half of them refused at baseline; added, the direction makes refuse all."""
    found = {
        "baseline>a": labels(folder, "base", "R" * 50 + "C" * 50),
        "a>a": labels(folder, "ablated", ablated),
        "induced:a>a": labels(folder, "induced", "R" * 100),
    }
    none = CellControls({}, {})
    given = {"removal_controls": none, "induction_controls": none, "gates": {}, "zeros": {}} | known
    return MatrixEvidence(found, {"a": labels(folder, "harmless", "C" * 100)}, **given)


PAIR = LanguagePair("a", "a")
BEYOND = CellControls({PAIR: Compared(0.05, 0.05, 0.05)}, {})


def test_induction_is_no_transfer_without_controls_of_its_own(tmp_path: Path) -> None:
    kept = evidence(tmp_path, "C" * 100, removal_controls=BEYOND)
    found = decide_cells(VerdictSettings(), [PAIR], kept)[PAIR]
    assert found.removal.value == "transfers"
    assert found.induction is not None
    assert (found.induction.value, found.induction.removed) == ("inconclusive", 1.0)
    assert "control directions were switched off" in found.induction.reason
    both = dataclasses.replace(kept, induction_controls=BEYOND)
    found = decide_cells(VerdictSettings(), [PAIR], both)[PAIR]
    assert found.induction is not None
    assert found.induction.value == "transfers"


def test_a_reversal_beside_an_induction_is_a_contradiction_whatever_its_controls_say(tmp_path: Path) -> None:
    found = decide_cells(VerdictSettings(), [PAIR], evidence(tmp_path, "R" * 100, removal_controls=BEYOND))[PAIR]
    assert found.removal.removed == -0.5
    assert (found.removal.value, "contradiction" in found.removal.reason) == ("inconclusive", True)


def test_a_zero_on_the_harmful_side_reaches_the_rule(tmp_path: Path) -> None:
    zero = {PAIR: ZeroPoint(-5.0, -1.0, 1.25, None, "means")}
    kept = evidence(tmp_path, "R" * 100, removal_controls=BEYOND, zeros=zero)
    alone = dataclasses.replace(kept, labels={k: v for k, v in kept.labels.items() if not k.startswith("induced")})
    found = decide_cells(VerdictSettings(), [PAIR], alone)[PAIR]
    assert found.induction is None
    assert (found.removal.value, "1.25 of the way" in found.removal.reason) == ("inconclusive", True)


def controls(folder: Path, key: str, real: float = 9.0, *, rank: int = 1) -> Artifact:
    """A cell's control directions: 19 draws that lower the score by 0 to 1.8, raise it by 0 to 0.9."""
    draws = tuple(i / 10 for i in range(19))
    rises = tuple(d / 2 for d in draws)
    source, target = key.split(">")
    record = Controls(
        source=source, target=target, drop=real, baseline=2.0, kl=0.4, kl_limit=0.4,
        draws=tuple(ControlDraw(1.0, 0.1, each) for each in draws), p=0.05, p_reverse=1.0, smallest_p=0.05,
        abs_cosine=CosineSize(0.1, 0.2), rank=rank, n_prompts=4, n_harmless=4, searched=3, candidates=3,
        n_scored=4, prompt_passes=1,
        added=AddedControls(1.0, 5.0, -2.0, 4, rises, 0.05, 1.0),
    )  # fmt: skip
    where = folder / key.replace(">", "-")
    where.mkdir()
    formats.write_record(where, record)
    return Artifact("controls", key, where, {})


def test_claims_share_their_draws_and_positive_controls_are_families_of_their_own() -> None:
    draws = tuple(i / 10 for i in range(19))
    cells = {LanguagePair("a", t): Effects(9.0, draws) for t in ("a", "b", "c", "d", "e", "f", "g")}
    cells[LanguagePair("b", "c")] = Effects(0.85, draws)  # beats half of them
    cells[LanguagePair("b", "d")] = Effects(-9.0, draws)
    found = against_controls(cells)
    assert {pair: each.p for pair, each in found.items() if pair.source == "a"} == {
        LanguagePair("a", t): pytest.approx(0.05) for t in "abcdefg"
    }  # Holm over eight claims would give 0.4 at best
    assert found[LanguagePair("b", "c")].p > 0.4
    assert found[LanguagePair("b", "d")].p == 1.0
    assert found[LanguagePair("b", "d")].p_reverse == pytest.approx(0.05)
    assert found[LanguagePair("a", "b")].p_reverse == 1.0
    assert all(each.smallest == pytest.approx(0.05) for each in found.values())
    assert against_controls({}) == {}


def test_pairs_in_order_stand_at_their_own_p_while_all_before_them_do() -> None:
    draws = tuple(i / 10 for i in range(19))
    strong = Effects(9.0, draws)
    ab, ac, ad, ae = (LanguagePair("a", t) for t in "bcde")
    cells = {
        LanguagePair("a", "a"): strong,
        ad: strong,
        ac: Effects(0.85, draws),
        ab: Effects(1.75, (*draws[:18], 99.0)),
    }
    together = against_controls(cells)
    assert together[ad].p == pytest.approx(0.1)  # one draw does much in b, and that is held against d
    found = against_controls(cells, [ad, ab, ac, ae])
    assert [found[pair].p for pair in (ad, ab, ac)] == pytest.approx([0.05, 0.1, 0.55])
    assert against_controls(cells, [ac, ad])[ad].p == pytest.approx(0.55)  # behind one that does not stand
    assert against_controls(cells, [ae, ad])[ad].p == 1.0  # behind one that has no controls
    assert [found[pair].behind for pair in (ad, ab, ac)] == [None, None, None]  # each at its own p
    controls = CellControls(against_controls(cells, [ac, ad]), {})
    assert controls.beside(ad)["behind"] == "a>c"
    assert "behind" not in controls.beside(ac)
    refused, answered = ({f"p{i}": word for i in range(80)} for word in ("refusal", "compliance"))
    reason = decide(refused, answered, Evidence(0.1, **controls.beside(ad))).reason
    assert "pairs are tested in order, and a>c before it is not shown to be beyond its control directions" in reason
    assert {pair: each.p_reverse for pair, each in found.items()} == {p: e.p_reverse for p, e in together.items()}
    assert found[LanguagePair("a", "a")] == together[LanguagePair("a", "a")]


def test_the_order_is_that_of_targets_and_sources() -> None:
    asked = Settings.of(sources=("en", "be"), targets=("de", "en", "ba"))
    assert claims_in_order(asked) is None
    assert list(map(str, claims_in_order(asked.changed(control_family="in-order")) or ())) == [
        "en>de", "be>de", "be>en", "en>ba", "be>ba"
    ]  # fmt: skip


def test_in_order_the_family_wise_error_is_kept_where_all_claims_are_false() -> None:
    rng, wrong, n = np.random.default_rng(0), 0, 1500
    pairs = [LanguagePair("a", t) for t in "bcdef"]
    for _ in range(n):
        shared, own = rng.standard_normal((20, 1)), rng.standard_normal((20, 5)) ** 3  # heavy tails
        both = 0.5 * shared + own
        cells = {p: Effects(float(both[0, i]), tuple(map(float, both[1:, i]))) for i, p in enumerate(pairs)}
        wrong += any(each.p <= 0.05 for each in against_controls(cells, pairs).values())
    assert wrong / n < 0.05 + 3 * (0.05 * 0.95 / n) ** 0.5


def test_each_question_has_controls_of_its_own(tmp_path: Path) -> None:
    inputs = {f"controls:{key}": controls(tmp_path, key) for key in ("a>a", "a>b", "a>c")}
    removal, induction = cell_controls(inputs, {LanguagePair("a", "d"): "could not be run: no refusal there"}, rank=1)
    ab, ad, ae = (LanguagePair("a", t) for t in "bde")
    assert removal.beside(ab) == induction.beside(ab) == {
        "p_null": pytest.approx(0.05), "p_reverse": 1.0, "smallest_p": pytest.approx(0.05)
    }  # fmt: skip
    for each in (removal, induction):
        assert "could not be run: no refusal there" in each.beside(ad)["no_controls"]
        assert each.beside(ae) == {"no_controls": None}  # not asked for


def test_controls_of_another_rank_are_none_for_removal_and_do_for_addition(tmp_path: Path) -> None:
    inputs = {"controls:a>b": controls(tmp_path, "a>b")}
    removal, induction = cell_controls(inputs, {}, rank=2)
    found = removal.beside(LanguagePair("a", "b"))
    assert found == {
        "no_controls": "there are no matching control directions: theirs is rank 1, 2 are ablated together here"
    }
    assert induction.beside(LanguagePair("a", "b"))["p_null"] == pytest.approx(0.05)  # addition has no rank


def test_answers_under_control_directions_decide_from_19_on(tmp_path: Path) -> None:
    kept = evidence(tmp_path, "C" * 100, removal_controls=BEYOND)
    drawn = {f"within_class#{i}:a>a": labels(tmp_path, f"draw{i}", "R" * (50 - i) + "C" * (50 + i)) for i in range(19)}
    shown = dataclasses.replace(kept, labels=kept.labels | drawn)
    assert shown.drawn(PAIR) is None
    deciding = dataclasses.replace(shown, answers_decide=True)
    assert deciding.drawn(PAIR) == tuple(pytest.approx(i / 100) for i in range(19))
    found = decide_cells(VerdictSettings(), [PAIR], deciding)[PAIR].removal
    assert (found.value, "beyond each of 19 in answers" in found.reason) == ("transfers", True)
    worse = {**deciding.labels, "within_class#18:a>a": labels(tmp_path, "all", "C" * 100)}
    found = decide_cells(VerdictSettings(), [PAIR], dataclasses.replace(deciding, labels=worse))[PAIR].removal
    assert (found.value, "control direction 19 may remove +50%" in found.reason) == ("inconclusive", True)
    unasked = dataclasses.replace(deciding, labels=kept.labels)
    found = decide_cells(VerdictSettings(), [PAIR], unasked)[PAIR].removal
    assert (found.value, "only 0 control directions" in found.reason) == ("inconclusive", True)
