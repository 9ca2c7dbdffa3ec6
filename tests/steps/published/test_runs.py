"""Published files as artifacts: synthetic files of each format, hostile and broken ones, and real published labels."""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from refusalctl.errors import BadInput, DataError, EmptySelection, RefusalctlError
from refusalctl.records.transfer import ChosenDirection
from refusalctl.report.selection_words import described
from refusalctl.settings import Machine
from refusalctl.stats.rates import outcome_rate
from refusalctl.stats.selection_rule import PRESETS
from refusalctl.steps.completions import read_completions
from refusalctl.steps.interventions import InterventionSpec, resolve_direction
from refusalctl.steps.labelling.labels import judge_completions, outcomes_by_prompt, read_labels
from refusalctl.steps.labelling.translations import read_translations
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.published.request import Request
from refusalctl.steps.published.runs import import_files
from refusalctl.steps.selection.scores import chosen_candidate, read_scores
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Artifact, Store
from refusalctl.store.verify import verify

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "published_labels"
GERMAN = [
    "Wie backe ich ein gutes Brot mit Nüssen?",
    "Schreibe einen Brief an meine Nachbarin.",
    "Nenne drei Bäume im Norden.",
]
ENGLISH = ["How do I bake a good bread with nuts?", "Write a letter to my neighbour.", "Name three trees of the north."]
ANSWERS = [
    "Mische Mehl, Wasser und Salz und warte eine Stunde.",
    "Dabei kann ich leider nicht helfen.",
    "Birke, Fichte und Kiefer.",
]
MAINLP = Request("de", "mainlp/Multilingual-Refusal@985169d", "Qwen/Qwen2.5-7B-Instruct", direction_lang="ja")


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(Store(tmp_path / "store"), Machine("tiny", device="cpu"))


def rows(**extra: list[Any]) -> list[dict[str, Any]]:
    """Rows as mainlp writes them, with more columns."""
    columns = {"instruction": GERMAN, "instruction_en": ENGLISH, "response": ANSWERS, **extra}
    return [dict(zip(columns, values)) for values in zip(*columns.values(), strict=True)]


def verdict(refusal: Any, harmful: Any = 0) -> dict[str, Any]:
    return {"request_harmful": 1, "refusal": refusal, "response_harmful": harmful}


EVALUATED = {
    "generation_tokens": ["5 6 7 9 9 9", "5 9", "1 2 3"],
    "response_translated": ["Mix flour, water and salt.", "Translation failed", "Birch, spruce and pine."],
    "wildguard": [verdict(0, 1), verdict(1), verdict("maybe")],
    "is_jailbreak_substring_matching": [1, 1, 0],
    "is_jailbreak_llamaguard2": [1, 0, None],
}


def file(tmp_path: Path, name: str, content: Any) -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def by_kind(found: list[Artifact]) -> dict[str, list[Artifact]]:
    kinds: dict[str, list[Artifact]] = {}
    for each in found:
        kinds.setdefault(each.kind, []).append(each)
    return kinds


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


# --- directions ----------------------------------------------------------------------------------------


def run_folder(tmp_path: Path, nan: bool = False) -> Path:
    """A run as published: 2 positions, 4 layers, the best under Arditi's rule at (-1, 1), under Wang's at (-2, 2)."""
    home = tmp_path / "run"
    for name in ("generate_directions", "select_direction", "completions"):
        (home / name).mkdir(parents=True)
    means = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.save(means, home / "generate_directions" / "mean_diffs.pt")
    torch.save([means[-2, 2]], home / "direction_ablation.pt")
    (home / "direction_metadata_ablation.json").write_text('{"pos": [-2], "layer": [2]}')
    scores = [
        {"position": p, "layer": n, "refusal_score": -float(n), "steering_score": 1.0, "kl_div_score": 0.05}
        for p in (-2, -1)
        for n in range(4)
    ]
    scores[2] |= {"refusal_score": -9.0, "steering_score": -1.0, "kl_div_score": 0.15}
    scores[5] |= {"refusal_score": -5.0}
    if nan:
        scores = [row | {"refusal_score": float("nan")} for row in scores]
    (home / "select_direction" / "direction_evaluations_ablation.json").write_text(json.dumps(scores))
    (home / "select_direction" / "direction_evaluations_filtered_ablation.json").write_text("[]")
    (home / "completions" / "harmful_baseline_completions.json").write_text(json.dumps(rows()))
    evaluated = {"completions": rows(**EVALUATED)}
    (home / "completions" / "harmful_baseline_evaluations.json").write_text(json.dumps(evaluated))
    return home


def test_a_run_s_directions_can_be_applied_and_chosen_again(bench: Workbench, tmp_path: Path) -> None:
    home = run_folder(tmp_path)
    request = Request("de", "here", "m", rule=PRESETS["arditi"])
    found = by_kind(import_files(bench, [home], request))
    assert len(found["completions"]) == 1  # the evaluations hold the completions of the file beside them
    means = torch.load(home / "generate_directions" / "mean_diffs.pt", weights_only=True).float()
    published, chosen = found["selection"]
    vectors = {a.id: resolve_direction(InterventionSpec("ablate", a)) for a in (published, chosen)}
    assert torch.equal(vectors[published.id].direction, means[-2, 2])
    assert torch.equal(vectors[chosen.id].direction, means[-1, 1])
    assert chosen_candidate(published) == ChosenDirection(published.id, -2, 2, -9.0, -1.0, 0.15)
    assert (chosen.about["rule"], chosen_candidate(chosen).layer) == ("arditi", 1)
    assert any("how steady the choice is cannot be told" in line for line in described(chosen))
    one = InterventionSpec("ablate", found["directions"][0], pos=-1, layer=3)
    assert torch.equal(resolve_direction(one).direction, means[-1, 3])
    wang = by_kind(import_files(bench, [home], Request("de", "here", "m", rule=PRESETS["wang"])))
    assert chosen_candidate(wang["selection"][1]).bypass == -9.0
    assert not [n for n in bench.notes if "another run" in n]


def test_what_an_import_did_not_bring_is_said_to_be_unknown(bench: Workbench, tmp_path: Path) -> None:
    from refusalctl.report import artifact_words

    found = by_kind(import_files(bench, [run_folder(tmp_path)], Request("de", "here", "m", rule=PRESETS["arditi"])))
    for kind in ("directions", "selection"):
        text = "\n".join(artifact_words.described(found[kind][0]))
        assert "how reliable the direction is cannot be told" in text
        assert "share no direction" not in text


def test_a_direction_that_is_not_the_candidate_its_metadata_names_is_noted(bench: Workbench, tmp_path: Path) -> None:
    home = run_folder(tmp_path)
    torch.save(torch.ones(8), home / "direction_ablation.pt")
    import_files(bench, [home], Request("de"))
    assert any("direction_ablation.pt is not the candidate at position -2, layer 2" in note for note in bench.notes)


def test_scores_that_are_all_nan_are_an_error_and_no_choice(bench: Workbench, tmp_path: Path) -> None:
    """As in the published Bashkir and Tajik runs, whose code fell back to position 0, layer 0."""
    with pytest.raises(DataError, match="scores of all 8 candidates are NaN"):
        import_files(bench, [run_folder(tmp_path, nan=True)], Request("de"))
    assert not bench.store.ids()


def test_an_emptied_choice_leaves_nothing(bench: Workbench, tmp_path: Path) -> None:

    rule = PRESETS["arditi"].with_limits(max_kl=0.01)
    with pytest.raises(EmptySelection, match="none of 8 candidates passes"):
        import_files(bench, [run_folder(tmp_path) / "select_direction", tmp_path / "run" / "generate_directions"],
                     Request("de", rule=rule))  # fmt: skip
    assert not bench.store.ids()


class Payload:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["mean_diffs.pt", "direction.pt"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_that_runs_code_is_refused(bench: Workbench, tmp_path: Path, name: str, plain: bool) -> None:
    mark, path = tmp_path / "ran", tmp_path / name
    if plain:
        path.write_bytes(pickle.dumps(Payload(mark)))
    else:
        torch.save({"weights": torch.ones(2), "more": Payload(mark)}, path)
    torch.load(path, weights_only=False) if not plain else pickle.loads(path.read_bytes())  # the payload is live
    assert mark.is_dir()
    mark.rmdir()
    with pytest.raises(DataError, match=r"holds more than tensors|cannot be read"):
        import_files(bench, [path], Request("de"))
    assert not mark.exists()
    assert not bench.store.ids()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 broken", b"\x80\x04junk", b"hello"],
)
def test_a_broken_tensor_file_is_one_clear_line(bench: Workbench, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mean_diffs.pt").write_bytes(content)
    with pytest.raises(DataError) as caught:
        import_files(bench, [tmp_path / "mean_diffs.pt"], Request("de"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tensor", [torch.ones(3, 4), torch.ones(2, 3, 4, dtype=torch.int64), torch.full((2, 3, 4), float("nan")), {"a": 1}]
)
def test_tensors_of_another_shape_or_without_numbers_are_refused(bench: Workbench, tmp_path: Path, tensor: Any) -> None:
    torch.save(tensor, tmp_path / "mean_diffs.pt")
    with pytest.raises(DataError, match=r"mean_diffs.pt holds"):
        import_files(bench, [tmp_path / "mean_diffs.pt"], Request("de"))


def test_a_direction_without_its_place_and_scores_of_another_run(bench: Workbench, tmp_path: Path) -> None:
    torch.save(torch.ones(8), tmp_path / "direction.pt")
    with pytest.raises(DataError, match="0 files tell its position"):
        import_files(bench, [tmp_path / "direction.pt"], Request("de"))
    torch.save(torch.ones(1, 2, 8), tmp_path / "mean_diffs.pt")
    score = [{"position": -3, "layer": 0, "refusal_score": 0.0, "steering_score": 0.0, "kl_div_score": 0.0}]
    other = file(tmp_path, "direction_evaluations.json", score)
    with pytest.raises(DataError, match="belong to different runs"):
        import_files(bench, [tmp_path / "mean_diffs.pt", other], Request("de"))


# --- labels without text -------------------------------------------------------------------------------

# compliance before and after ablation of the Japanese direction, n = 572: Wang et al. 2025 (arXiv 2505.17306), the CSV
# files committed by mainlp/Multilingual-Refusal at 985169df, three decimals
PUBLISHED = {
    "Qwen2.5-7B-Instruct": {
        "en": (".089", "1.000"), "de": (".142", ".998"), "es": (".093", "1.000"), "fr": (".121", "1.000"),
        "it": (".093", "1.000"), "nl": (".164", "1.000"), "ja": (".229", None), "pl": (".129", "1.000"),
        "zh": (".142", None), "ko": (".238", None), "yo": (".766", ".748"),
    },
    "gemma-2-9b-it": {
        "en": (".005", ".988"), "de": (".014", ".988"), "es": (".028", ".990"), "fr": (".016", ".991"),
        "it": (".009", ".990"), "nl": (".016", ".997"), "ja": (".061", None), "pl": (".024", ".998"),
        "zh": (".031", None), "ko": (".086", None), "ar": (".040", None), "yo": (".565", ".941"),
    },
}  # fmt: skip


def rate(artifact: Artifact) -> str:
    shown = f"{outcome_rate([r.outcome for r in read_labels(artifact)], 'compliance').value:.3f}"
    return shown if shown.startswith("1") else shown.removeprefix("0")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published labels are not beside this checkout")
@pytest.mark.parametrize("model", PUBLISHED)
def test_published_labels_give_the_published_rates_to_the_last_digit(bench: Workbench, model: str) -> None:
    found = import_files(bench, [SHARED / f"{model}.json"], Request(source="mainlp/Multilingual-Refusal@985169d"))
    wildguard = [a for a in found if a.about["judge"] == "imported:wildguard"]
    shown: dict[str, list[str | None]] = {}
    for artifact in wildguard:
        after = artifact.about["intervention"] == "ablate"
        assert artifact.about["n"] == 572
        assert artifact.about.get("direction_lang") == ("ja" if after else None)
        shown.setdefault(artifact.about["lang"], [None, None])[after] = rate(artifact)
    assert {lang: tuple(pair) for lang, pair in shown.items()} == PUBLISHED[model]
    assert bench.notes == []  # every average that the files report is what their labels give, to nine digits


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published labels are not beside this checkout")
def test_published_flips_of_yoruba_are_those_of_the_notes(bench: Workbench) -> None:
    from refusalctl.stats.rates import flips

    found = import_files(bench, [SHARED / "Qwen2.5-7B-Instruct.json"], Request())
    yo = {a.about["intervention"]: outcomes_by_prompt(a) for a in found
          if (a.about["lang"], a.about["judge"]) == ("yo", "imported:wildguard")}  # fmt: skip
    moved = flips(yo["none"], yo["ablate"])
    assert (moved.removed, moved.gained) == (90, 100)


def labels_file(tmp_path: Path, **cells: Any) -> Path:
    content = {"what": "test", "model": "m", "labels": {"de": cells}}
    return file(tmp_path, "labels.json", content)


def test_labels_without_text_are_paired_by_position(bench: Workbench, tmp_path: Path) -> None:
    path = labels_file(
        tmp_path,
        baseline={"refusal": "1101", "response_harmful": "0010", "n": 4, "reported": {"wildguard_refusal": 0.75}},
        ablation_ja={"refusal": "00?1", "response_harmful": "11?0", "substring_jailbreak": "1110"},
    )
    found = import_files(bench, [path], Request())
    assert [(a.about["intervention"], a.about["judge"]) for a in found] == [
        ("none", "imported:wildguard"), ("ablate", "imported:wildguard"), ("ablate", "imported:substring-matching"),
    ]  # fmt: skip
    before, after = (read_labels(a) for a in found[:2])
    assert [r.prompt_id for r in before] == [r.prompt_id for r in after] == [f"harmful-test-{i:03d}" for i in range(4)]
    assert [r.outcome for r in after] == ["compliance", "compliance", "unparsed", "refusal"]
    assert [r.harmful for r in after] == [True, True, None, False]
    assert Counter(r.outcome for r in read_labels(found[2])) == {"compliance": 3, "refusal": 1}
    assert bench.notes == []


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"refusal": ""}, "no string 'refusal'"),
        ({"refusal": "01", "response_harmful": "0"}, "response_harmful holds no string of 2 labels"),
        ({"refusal": "01", "n": 3}, "2 labels, n says 3"),
        ({"refusal": "01", "reported": {"wildguard_refusal": "x"}}, "something other than shares"),
        (7, "no string 'refusal'"),
    ],
)
def test_malformed_labels_are_one_clear_line(bench: Workbench, tmp_path: Path, cell: Any, message: str) -> None:
    with pytest.raises(RefusalctlError, match=message):
        import_files(bench, [labels_file(tmp_path, baseline=cell)], Request())
    with pytest.raises(DataError, match="differ in their number of prompts"):
        import_files(bench, [labels_file(tmp_path, a={"refusal": "01"}, b={"refusal": "011"})], Request())
    assert not bench.store.ids()


def test_imported_scores_carry_no_made_up_prompts(bench: Workbench, tmp_path: Path) -> None:
    found = by_kind(import_files(bench, [run_folder(tmp_path)], Request("de")))
    table = read_scores(found["scores"][0])
    assert table.validation is None
    assert table.candidates[0].per_prompt is None
    assert table.untold
