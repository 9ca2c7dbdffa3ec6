"""Published runs as artifacts: synthetic files of each format, and broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refusalctl.errors import BadInput, DataError
from refusalctl.steps.completions import read_completions
from refusalctl.steps.labelling.labels import judge_completions, read_labels
from refusalctl.steps.labelling.translations import read_translations
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.published.request import Request
from refusalctl.steps.published.runs import import_files
from refusalctl.steps.step import Workbench
from refusalctl.store.verify import verify
from tests.steps.published.published_files import (
    ANSWERS,
    ENGLISH,
    EVALUATED,
    GERMAN,
    MAINLP,
    by_kind,
    file,
    rows,
    verdict,
)


def test_an_evaluations_file_becomes_prompts_completions_translations_and_labels(
    bench: Workbench, tmp_path: Path
) -> None:
    path = file(tmp_path, "harmful_baseline_evaluations.json", {"completions": rows(**EVALUATED)})
    found = by_kind(import_files(bench, [path], MAINLP))
    assert {k: len(v) for k, v in found.items()} == {"prompts": 1, "completions": 1, "translations": 1, "labels": 3}
    written = read_completions(found["completions"][0])
    assert [row.text for row in written] == ANSWERS
    assert next((row.token_ids, row.n_tokens, row.truncated) for row in written) == ((5, 6, 7, 9), 4, None)
    about = found["completions"][0].about
    assert (about["provenance"], about["lang"], about["intervention"]) == ("imported", "de", "none")
    assert "direction_lang" not in about  # a baseline has no direction
    params = found["completions"][0].manifest["recipe"]["params"]
    assert params["source"] == "mainlp/Multilingual-Refusal@985169d"
    assert len(params["sha256"]) == 64
    english = read_translations(found["translations"][0])
    assert [(row.text, row.failed) for row in english][1] == (None, "as published")
    labels = {a.about["judge"]: read_labels(a) for a in found["labels"]}
    assert [(r.outcome, r.harmful, r.reason) for r in labels["imported:wildguard"]] == [
        ("compliance", True, ""), ("unparsed", None, "failed translation"), ("unparsed", False, "malformed verdict"),
    ]  # fmt: skip
    assert [r.outcome for r in labels["imported:substring-matching"]] == ["compliance", "unparsed", "refusal"]
    harm = labels["imported:llamaguard2"]
    assert {r.outcome for r in harm} == {"unparsed"}
    assert [r.harmful for r in harm] == [True, None, None]
    assert all(a.inputs["completions"] == found["completions"][0].id for a in found["labels"])
    assert not verify(bench.store).problems


def test_prompts_pair_up_with_fetched_ones_and_across_languages(bench: Workbench, tmp_path: Path) -> None:
    from refusalctl.data.prompt_texts import cluster_of

    german = import_files(bench, [file(tmp_path, "harmful_ablation_completions.json", rows())], MAINLP)
    english = [{"category": "", "prompt": p, "response": "Surely."} for p in [*ENGLISH, ENGLISH[0]]]
    other = import_files(bench, [file(tmp_path, "jailbreakbench_actadd_completions.json", english)], Request("en"))
    ids = [p.id for p in read_prompts(german[0])]
    assert ids == [f"harmful-test-{cluster_of(text)}" for text in ENGLISH]
    assert [p.id for p in read_prompts(other[0])] == [*ids, f"{ids[0]}-2"]  # a repeat has an id of its own
    assert (german[1].about["intervention"], german[1].about["direction_lang"]) == ("ablate", "ja")
    assert other[1].about["intervention"] == "add"


def test_a_published_name_with_two_meanings_is_kept_as_it_is(bench: Workbench, tmp_path: Path) -> None:
    path = file(tmp_path, "harmful_harm_ablation_completions.json", rows())
    assert import_files(bench, [path], MAINLP)[1].about["intervention"] == "harm_ablation"


def test_old_labels_can_be_judged_again_and_compared(bench: Workbench, tmp_path: Path) -> None:
    path = file(tmp_path, "harmful_baseline_evaluations.json", {"completions": rows(**EVALUATED)})
    found = by_kind(import_files(bench, [path], MAINLP))
    again = judge_completions(bench, found["completions"][0], "substring")
    assert [r.outcome for r in read_labels(again)] == ["compliance", "refusal", "compliance"]
    english = judge_completions(bench, found["completions"][0], "substring", translations=found["translations"][0])
    assert [(r.outcome, r.reason) for r in read_labels(english)][1] == (
        "unparsed", "failed translation: as published",
    )  # fmt: skip


def test_the_same_file_twice_is_the_same_artifact(bench: Workbench, tmp_path: Path) -> None:
    path = file(tmp_path, "harmful_baseline_evaluations.json", {"completions": rows(**EVALUATED)})
    first, second = (import_files(bench, [path], MAINLP) for _ in range(2))
    assert [a.id for a in first] == [a.id for a in second]


def test_a_file_whose_averages_are_not_its_rows_is_noted(bench: Workbench, tmp_path: Path) -> None:
    content = {"completions": rows(**EVALUATED), "wildguard_refusal": 0.9, "wildguard_compliance": 1.0}
    import_files(bench, [file(tmp_path, "harmful_baseline_evaluations.json", content)], MAINLP)
    assert [n for n in bench.notes if "stated" in n] == [
        "harmful_baseline_evaluations.json: wildguard_refusal is stated as 0.9000, the 1 labelled rows give 0.0000"
    ]


def test_verdicts_that_may_be_unread_are_noted(bench: Workbench, tmp_path: Path) -> None:
    zero = {"request_harmful": 0, "refusal": 0, "response_harmful": 0}
    content = {"completions": rows(wildguard=[zero, zero, verdict(1)])}
    import_files(bench, [file(tmp_path, "harmful_baseline_evaluations.json", content)], MAINLP)
    assert any("all 'no' in 2 rows" in note for note in bench.notes)


def test_english_prompts_are_not_taken_for_another_language(bench: Workbench, tmp_path: Path) -> None:
    """The published 'native' Belarusian evaluation was run on English prompts."""
    path = file(tmp_path, "harmful_ablation_completions.json", rows(instruction=ENGLISH))
    with pytest.raises(DataError, match="3 of 3 prompts are the English ones, not 'be'"):
        import_files(bench, [path], Request("be"))
    alone = [{"prompt": p, "response": "x y z"} for p in ENGLISH]
    with pytest.raises(DataError, match="prompts are in another language"):
        import_files(bench, [file(tmp_path, "harmful_baseline_completions.json", alone)], Request("tg"))
    assert not bench.store.ids()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("harmful_baseline_completions.json", "[{", "is not JSON, or was cut"),
        ("harmful_baseline_completions.json", "[]", "holds no completions"),
        ("harmful_baseline_completions.json", {"a": 1}, "holds no completions"),
        ("harmful_baseline_completions.json", [1], "row 0 is int"),
        ("harmful_baseline_completions.json", [{"response": "x"}], "row 0 has no prompt"),
        ("harmful_baseline_completions.json", [{"prompt": " ", "response": "x"}], "row 0 has no prompt"),
        ("harmful_baseline_completions.json", [*rows(), {"instruction": "x"}], "row 3 has no response"),
        ("harmful_baseline_completions.json", [{**rows()[0], "response_translated": 7}], "response_translated is int"),
        ("answers.json", rows(), "tells no condition"),
        ("xstest_baseline_completions.json", rows(), "tells no prompt class"),
        ("harmful_x_evaluations.json", {"completions": rows(), "wildguard_refusal": 7}, "refusal is not a share"),
    ],
)  # fmt: skip
def test_malformed_files_are_one_clear_line_and_leave_nothing(
    bench: Workbench, tmp_path: Path, name: str, content: Any, message: str
) -> None:
    good = file(tmp_path, "harmful_actadd_completions.json", rows())
    with pytest.raises(DataError, match=message) as caught:
        import_files(bench, [good, file(tmp_path, name, content)], MAINLP)
    assert "\n" not in str(caught.value)
    assert not any(text in str(caught.value) for text in (*GERMAN, *ANSWERS))
    assert not bench.store.ids()


def test_nothing_to_import_and_no_language(bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="nothing to import"):
        import_files(bench, [tmp_path / "empty"], MAINLP)
    with pytest.raises(BadInput, match="does not say its language"):
        import_files(bench, [file(tmp_path, "harmful_baseline_completions.json", rows())], Request())
    with pytest.raises(BadInput, match="is not there"):
        import_files(bench, [tmp_path / "nowhere.json"], MAINLP)


def test_a_secret_in_what_is_said_of_a_file_is_refused_before_anything_is_written(
    bench: Workbench, tmp_path: Path
) -> None:
    path = file(tmp_path, "harmful_baseline_completions.json", rows())
    request = Request("de", source="https://me:a-password@example.org/runs")
    with pytest.raises(BadInput, match=r"params\.source would put a token or a password") as caught:
        import_files(bench, [path], request)
    assert "a-password" not in str(caught.value)
    assert not bench.store.ids()


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '[{"instruction": "\\ud800", "response": "x"}]', '{"completions": [' + "9" * 5000 + "]}"],
)
def test_json_that_would_break_a_later_step_is_one_line(bench: Workbench, tmp_path: Path, content: str) -> None:
    path = tmp_path / "harmful_baseline_completions.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="is not JSON, or was cut"):
        import_files(bench, [path], MAINLP)
