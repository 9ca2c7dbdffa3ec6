"""What the rule is given is what the labels say: language first, and the family of claims adjusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.records.controls import Controls, ShuffledSelection
from refusalctl.records.rows import Label
from refusalctl.records.transfer import OutcomeCounts
from refusalctl.records.verdict import Unusable
from refusalctl.steps.counts import judged_outcomes
from refusalctl.steps.labelling.labels import LABELS_FILE
from refusalctl.steps.transfer import read_transfer
from refusalctl.steps.verdicts import null_p_values
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


def test_claims_are_one_family_and_positive_controls_are_none(tmp_path: Path) -> None:
    inputs = {}
    for key, p in {"a>a": 0.04, "a>b": 0.04, "b>a": 0.01, "a>c": 0.5}.items():
        folder = tmp_path / key
        folder.mkdir()
        searched = ShuffledSelection(1, 1, 1, ((-1, 1),), (0.0,), 1)
        source, target = key.split(">")
        formats.write_record(
            folder, Controls(source, target, 1.0, 2.0, {}, p, ("shuffled",), 0.01, 4, 4, 1, searched, ())
        )
        inputs[f"controls:{key}"] = Artifact("controls", key, folder, {})
    by_pair = {str(pair): p for pair, p in null_p_values(inputs).items()}
    assert by_pair == {"a>a": 0.04, "a>b": 0.08, "b>a": 0.03, "a>c": 0.5}
