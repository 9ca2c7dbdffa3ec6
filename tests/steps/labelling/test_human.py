"""People's labels: a blinded draw with known weights, a sheet read back with suspicion, rates corrected by it."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refusalctl.data import sheets
from refusalctl.errors import BadInput, DataError
from refusalctl.records.correction import JudgeCorrection
from refusalctl.stats.sampling import allocate
from refusalctl.steps.labelling import human
from refusalctl.steps.labelling.correction import correct_rates, read_correction
from refusalctl.steps.labelling.human import draw_sample, import_sheet, read_sample, write_sheet
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.steps.labelling.panel import form_panel
from refusalctl.store.store import Artifact
from tests.steps.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store", text="=A mild answer about bread.")


def judged(world: World, outcomes: str, lang: str = "de", directed: bool = False) -> tuple[Artifact, Artifact]:
    source = world.prompts(lang, "harmful", "test", len(outcomes))
    return world.judged(source, outcomes, world.selection(lang) if directed else None)


@pytest.fixture
def without_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up store holds no prompt texts."""
    monkeypatch.setattr(human, "_prompt_texts", lambda *_: {})


def fill(path: Path, drawn: Artifact, say: Callable[[Any], str]) -> None:
    """What annotators do: read a sheet, write into its column `label`."""
    of = {row.id: row for row in read_sample(drawn)}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = say(of[row["id"]])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, sheets.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def test_strata_get_the_same_as_far_as_they_go() -> None:
    assert allocate({"a": 100, "b": 3, "c": 100}, 43) == {"a": 20, "b": 3, "c": 20}
    assert allocate({"a": 2, "b": 1}, 50) == {"a": 2, "b": 1}
    with pytest.raises(BadInput, match="2 completions cannot cover 3 strata"):
        allocate({"a": 1, "b": 1, "c": 1}, 2)


def test_the_sheet_is_blind_and_the_sample_knows(world: World, tmp_path: Path, without_prompts: None) -> None:
    _, base = judged(world, "R" * 150 + "C" * 45 + "U" * 5)
    written, ablated = judged(world, "C" * 190 + "R" * 10, directed=True)
    drawn = draw_sample(world.bench, [base, ablated], 50)
    rows = read_sample(drawn)
    counts = Counter(row.stratum for row in rows)
    assert counts[base.inputs["completions"], "unparsed"] == 5  # all there are
    assert counts[written.id, "refusal"] == 10  # likewise
    assert sorted(counts.values()) == [5, 10, 11, 12, 12]
    assert all(row.drawn == counts[row.stratum] for row in rows)
    assert {(row.outcome, row.size) for row in rows if row.completions == written.id} == {
        ("refusal", 10), ("compliance", 190),
    }  # fmt: skip
    assert write_sheet(world.bench, drawn, tmp_path / "s.csv") == 50
    text = (tmp_path / "s.csv").read_text(encoding="utf-8-sig")
    assert not [word for word in ("refusal", "ablate", "harmful-test", "substring", written.id[:8]) if word in text]
    assert (tmp_path / "s.csv").stat().st_mode & 0o077 == 0
    order = [row.completions for row in rows]
    assert order != sorted(order)
    assert "\"'=A mild" in text  # no formula in a spreadsheet
    with pytest.raises(BadInput, match="is there already"):
        write_sheet(world.bench, drawn, tmp_path / "s.csv")
    write_sheet(world.bench, drawn, tmp_path / "s.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == [row.id for row in rows]
    assert draw_sample(world.bench, [ablated, base], 50).id == drawn.id
    assert draw_sample(world.bench, [ablated, base], 50, seed=1).id != drawn.id


def test_labels_come_back_as_labels_of_their_conditions(world: World, tmp_path: Path, without_prompts: None) -> None:
    first, base = judged(world, "R" * 20 + "C" * 20)
    second, ablated = judged(world, "C" * 40, directed=True)
    drawn = draw_sample(world.bench, [base, ablated], 30)
    path = tmp_path / "s.csv"
    write_sheet(world.bench, drawn, path)
    fill(path, drawn, lambda row: " Refusal " if row.outcome == "refusal" else "unsure")
    found = import_sheet(world.bench, path, drawn, "native-1")
    assert {a.inputs["completions"] for a in found} == {first.id, second.id}
    rows = [row for a in found for row in read_labels(a)]
    assert Counter((row.outcome, row.reason) for row in rows) == {
        ("refusal", ""): 10, ("unparsed", "annotator unsure"): 20,
    }  # fmt: skip
    assert {row.judge for row in rows} == {"human:native-1"}
    assert [a.id for a in import_sheet(world.bench, path, drawn, "native-1")] == [a.id for a in found]
    other = import_sheet(world.bench, path, drawn, "native-2")
    assert form_panel(world.bench, [*found, *other]).about["n"] == 30  # annotators agree or part like judges


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0].update(id="x"), "row 1: id 'x' was not drawn"),
        (lambda rows: rows[0].update(id="1.2E+15"), "row 1: id '1.2E\\+15' was not drawn.*ids as text"),
        (lambda rows: rows.append(rows[0]), "is there twice"),
        (lambda rows: rows.pop(), "1 of 10 drawn rows are not there"),
        (lambda rows: rows[2].update(label="maybe"), "row 3: label 'maybe' is not one of"),
        (lambda rows: rows[2].update(label=""), "1 of 10 rows have no label"),
        (lambda rows: [row.pop("id") for row in rows], "no column 'id'"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "semicolons"])
def test_a_sheet_that_does_not_fit_is_one_clear_line(
    world: World, tmp_path: Path, without_prompts: None, change: Any, message: str, form: str
) -> None:
    _, base = judged(world, "R" * 20 + "C" * 20)
    drawn = draw_sample(world.bench, [base], 10)
    rows: list[dict[str, Any]] = [
        {"id": r.id, "prompt": "p, q", "response": 'a "b"\nc; d\u2028e\x85f', "label": "refusal", "comment": ""}
        for r in read_sample(drawn)
    ]
    change(rows)
    if form != "jsonl":  # rows as a spreadsheet numbers them, below a header
        message = re.sub(r"row (\d):", lambda found: f"row {int(found[1]) + 1}:", message)
    path = tmp_path / ("s.jsonl" if form == "jsonl" else "s.csv")
    if form == "jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=";" if form == "semicolons" else ",")
            writer.writeheader()
            writer.writerows(rows)
    with pytest.raises((BadInput, DataError), match=message) as caught:
        import_sheet(world.bench, path, drawn, "native")
    assert "\n" not in str(caught.value)
    assert not [a for a in world.bench.store.all("labels") if a.about["judge"].startswith("human")]
    if "have no label" in message:
        found = import_sheet(world.bench, path, drawn, "native", partial=True)
        assert found[0].about["labelled"] == 9


def test_what_a_sample_cannot_be_of(world: World) -> None:
    _, german = judged(world, "RC" * 10)
    _, english = judged(world, "RC" * 10, "en")
    with pytest.raises(BadInput, match="one language and one judge"):
        draw_sample(world.bench, [german, english], 10)
    with pytest.raises(BadInput, match="of other completions"):
        draw_sample(world.bench, [german, german], 10)


def compare(
    world: World, tmp_path: Path, truth: Callable[[Any], str], n: int = 120, **settings: Any
) -> JudgeCorrection:
    """Two conditions judged, a sheet answered by `truth`, and the judge corrected by it."""
    _, base = judged(world, "R" * 150 + "C" * 50)
    _, ablated = judged(world, "R" * 20 + "C" * 180, directed=True)
    drawn = draw_sample(world.bench, [base, ablated], n)
    path = tmp_path / "s.csv"
    write_sheet(world.bench, drawn, path, replace=True)
    fill(path, drawn, truth)
    people = import_sheet(world.bench, path, drawn, "native", **settings)
    return read_correction(correct_rates(world.bench, [base, ablated], people)).judges[0]


def test_a_judge_that_misses_refusals_is_corrected_upwards(world: World, tmp_path: Path, without_prompts: None) -> None:
    """Every fifth compliance by the judge is a refusal to people."""
    counter = iter(range(10**6))

    def truth(row: Any) -> str:
        return "refusal" if row.outcome == "refusal" or next(counter) % 5 == 0 else "compliance"

    found = compare(world, tmp_path, truth).refusal
    # 170 refusals that the judge sees, a fifth of 230 that it does not
    assert found.sensitivity.value == pytest.approx(170 / (170 + 46), abs=0.03)
    assert found.specificity.value == 1.0
    assert found.specificity.interval[0] < 1.0
    for rate in found.rates:
        own, fixed = rate.rate, rate.corrected
        assert fixed.value > own.value
        assert fixed.interval[0] < fixed.value < fixed.interval[1]
        width = own.interval[1] - own.interval[0]
        assert fixed.interval[1] - fixed.interval[0] > width  # doubt about the judge is carried on


def test_weights_change_the_sensitivity(world: World, tmp_path: Path, without_prompts: None) -> None:
    """Equal numbers are drawn from 170 refusals and 230 compliances; plain shares would say something else."""
    seen: Counter[tuple[str, str]] = Counter()

    def truth(row: Any) -> str:
        """Of every ten rows of a stratum nine refusals by the judge, or three compliances, are refusals."""
        seen[row.stratum] += 1
        return "refusal" if seen[row.stratum] % 10 < {"refusal": 9, "compliance": 3}[row.outcome] else "compliance"

    found = compare(world, tmp_path, truth, n=80).refusal
    assert found.sensitivity.value == pytest.approx(0.9 * 170 / (0.9 * 170 + 0.3 * 230))  # plain: 0.75


def test_a_judge_like_a_coin_gets_no_corrected_rate(world: World, tmp_path: Path, without_prompts: None) -> None:
    rng = np.random.default_rng(1)
    found = compare(world, tmp_path, lambda _: str(rng.choice(["refusal", "compliance"]))).refusal
    assert found.sensitivity is not None
    assert all(rate.corrected is None and "better than chance" in rate.reason for rate in found.rates)
    assert all(rate.rate.value is not None for rate in found.rates)


def test_too_few_labels_of_a_kind_give_a_reason_and_no_number(
    world: World, tmp_path: Path, without_prompts: None
) -> None:
    found = compare(world, tmp_path, lambda _: "compliance").refusal
    assert found.sensitivity is None
    assert "0 positive labels, expected at least 10" in found.reason


def test_a_stratum_that_nobody_labelled_gives_no_number(world: World, tmp_path: Path, without_prompts: None) -> None:
    found = compare(
        world, tmp_path, lambda row: "refusal" if row.outcome == "refusal" else "", n=80, partial=True
    ).refusal  # fmt: skip
    assert found.sensitivity is None
    assert "people labelled none of the completions that were drawn as compliance" in found.reason


def test_corrections_that_cannot_be(world: World, tmp_path: Path, without_prompts: None) -> None:
    _, base = judged(world, "R" * 20 + "C" * 20)
    _, other = judged(world, "R" * 10 + "C" * 10, "en")
    drawn = draw_sample(world.bench, [base], 20)
    path = tmp_path / "s.csv"
    write_sheet(world.bench, drawn, path)
    fill(path, drawn, lambda row: row.outcome)
    people = import_sheet(world.bench, path, drawn, "native")
    with pytest.raises(BadInput, match="holds no people's labels"):
        correct_rates(world.bench, [base], [base])
    with pytest.raises(BadInput, match="of other completions than the people's"):
        correct_rates(world.bench, [other], people)
    twice = import_sheet(world.bench, path, drawn, "native-2")
    with pytest.raises(BadInput, match="two annotators"):
        correct_rates(world.bench, [base], [*people, *twice])
