"""Published labels without texts, synthetic and real."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from refusalctl.errors import DataError, RefusalctlError
from refusalctl.stats.rates import outcome_rate
from refusalctl.steps.labelling.labels import outcomes_by_prompt, read_labels
from refusalctl.steps.published.request import Request
from refusalctl.steps.published.runs import import_files
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Artifact
from tests.steps.published.published_files import labels_file

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "published_labels"

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
