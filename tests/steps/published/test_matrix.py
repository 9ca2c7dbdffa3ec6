"""Labels from elsewhere as a matrix: what is paired, what is named as missing, and that no verdict is made up."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from refusalctl.cli.app import app
from refusalctl.errors import BadInput, Corrupt, DataError
from refusalctl.records.transfer import Transfer
from refusalctl.report.imported import conclusions
from refusalctl.report.make import make_report
from refusalctl.report.sources import content
from refusalctl.settings import Machine, Settings
from refusalctl.stats.verdict import Evidence, decide
from refusalctl.steps.published.matrix import matrix_of_labels
from refusalctl.steps.published.request import Request
from refusalctl.steps.published.runs import import_files
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import read_transfer
from refusalctl.store.store import Artifact, Store
from refusalctl.study import Study
from tests.steps.published.published_files import ENGLISH, GERMAN
from tests.steps.published.test_labels import SHARED

N = 100
SOURCE = "mainlp/Multilingual-Refusal@985169d"


def said(refusals: int, n: int = N) -> dict[str, Any]:
    return {"refusal": "1" * refusals + "0" * (n - refusals), "n": n}


def published(path: Path, labels: dict[str, dict[str, Any]], model: str = "tiny") -> Path:
    path.write_text(json.dumps({"model": model, "labels": labels}), encoding="utf-8")
    return path


# a fall, nothing, a rise, too little room, a baseline alone, and a source whose own direction was tried
CELLS = {
    "de": {"baseline": said(90), "ablation_ja": said(5)},
    "en": {"baseline": said(90), "ablation_ja": said(90)},
    "fr": {"baseline": said(30), "ablation_ja": said(90)},
    "ja": {"baseline": said(80), "ablation_ja": said(2)},
    "ko": {"baseline": said(70)},
    "yo": {"baseline": said(5), "ablation_ja": said(2)},
}


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(Store(tmp_path / "store"), Machine("tiny", device="cpu"))


def labels_of(bench: Workbench, path: Path, request: Request | None = None) -> list[Artifact]:
    return [each for each in import_files(bench, [path], request or Request(source=SOURCE)) if each.kind == "labels"]


def matrix(bench: Workbench, path: Path) -> tuple[Artifact, Transfer]:
    made = matrix_of_labels(bench, labels_of(bench, path))
    return made, read_transfer(made)


def test_the_verdicts_are_those_of_the_rule_without_what_was_not_published(bench: Workbench, tmp_path: Path) -> None:
    _, record = matrix(bench, published(tmp_path / "a.json", CELLS))
    found = {
        cell.key: (cell.removal.value, round(cell.removal.removed, 2))
        for cell in record.cells
        if cell.removal is not None
    }
    assert found == {
        "ja>de": ("inconclusive", 0.85),
        "ja>en": ("inconclusive", 0.0),
        "ja>fr": ("inconclusive", -0.6),
        "ja>ja": ("inconclusive", 0.78),
        "ja>yo": ("uninformative", 0.03),
    }
    before = {str(i): "refusal" if i < 90 else "compliance" for i in range(N)}
    after = {str(i): "refusal" if i < 5 else "compliance" for i in range(N)}
    alone = decide(before, after, Evidence(0.1, no_controls="labels from elsewhere come without control directions"))
    german = next(cell.removal for cell in record.cells if cell.key == "ja>de")
    assert german is not None
    assert (german.value, german.limits95, german.removed) == (alone.value, alone.limits95, alone.removed)
    assert "without control directions" in german.reason
    english = next(cell.removal for cell in record.cells if cell.key == "ja>en")
    assert english is not None
    assert "no positive control" in english.reason
    assert (record.gates, record.directions, record.harmless) == ({}, {}, {})


def test_what_is_lacking_is_named_with_what_follows(bench: Workbench, tmp_path: Path) -> None:
    _, record = matrix(bench, published(tmp_path / "a.json", CELLS))
    assert record.imported is not None
    lacking = {each.what: each for each in record.imported.lacking}
    assert set(lacking) == {
        "control directions", "own directions", "gate", "zero points", "harmless baselines", "language of the answers",
        "label for degenerate answers",
    }  # fmt: skip
    assert lacking["own directions"].targets == ("de", "en", "fr", "ko", "yo")  # ja has one
    assert record.imported.origins == (SOURCE,)
    assert record.imported.by_position
    missing = {(each.source, each.target): each for each in record.imported.missing}
    assert ("ja", "ko") in missing
    assert {each.status for each in missing.values()} == {"not given"}
    assert set(record.settings) == {
        "sources",
        "targets",
        "prompts",
        "answers",
        "verdict",
    }  # nothing of how they answered


def test_switches_that_weaken_the_rule_do_not_reach_it(bench: Workbench, tmp_path: Path) -> None:
    loose = bench.asking(Settings.of(margin=0.05))
    made = matrix_of_labels(loose, labels_of(bench, published(tmp_path / "a.json", CELLS)))
    values = {cell.removal.value for cell in read_transfer(made).cells if cell.removal is not None}
    assert read_transfer(made).limits.margin == 0.05
    assert not values & {"transfers", "does not transfer", "reverses"}


def test_a_condition_without_its_baseline_is_shown_with_the_reason(bench: Workbench, tmp_path: Path) -> None:
    cells = CELLS | {"be": {"ablation_ja": said(3)}, "ba": {"baseline": said(60), "harm_ablation": said(3)}}
    made, record = matrix(bench, published(tmp_path / "a.json", cells))
    assert record.imported is not None
    reasons = {(each.target, each.condition): each.reason for each in record.imported.unpaired}
    assert set(reasons) == {("be", "ablation_ja"), ("ba", "harm_ablation")}
    assert "harmful prompts in Belarusian without intervention" in reasons["be", "ablation_ja"]
    assert "it may be more than an ablation" in reasons["ba", "harm_ablation"]
    assert "be" not in record.targets
    assert {each.labels for each in record.imported.unpaired} <= set(made.inputs.values())


def test_places_pair_within_one_file_only(bench: Workbench, tmp_path: Path) -> None:
    first = labels_of(bench, published(tmp_path / "a.json", {"de": {"baseline": said(90)}}))
    second = labels_of(bench, published(tmp_path / "b.json", {"de": {"ablation_ja": said(5)}}))
    with pytest.raises(BadInput, match=r"no condition can be paired.*its baseline is of another file"):
        matrix_of_labels(bench, [*first, *second])


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ({"de": CELLS["de"]}, {"de": CELLS["de"]}, "are both of the cell baseline>de"),
        ({"de": CELLS["de"]}, None, "no labels were given"),
        ({"de": {"baseline": said(5)}}, {}, "there are only baselines"),
    ],
)
def test_what_no_matrix_can_be_made_of_is_refused(
    bench: Workbench, tmp_path: Path, one: dict[str, Any], other: dict[str, Any] | None, says: str
) -> None:
    given = labels_of(bench, published(tmp_path / "a.json", one)) if other is not None else []
    given += labels_of(bench, published(tmp_path / "b.json", other), Request(source="elsewhere")) if other else []
    with pytest.raises(BadInput, match=re.escape(says)):
        matrix_of_labels(bench, given)


def test_one_model_and_one_judge_at_a_time(bench: Workbench, tmp_path: Path) -> None:
    both = {"de": {k: v | {"substring_jailbreak": "0" * N} for k, v in CELLS["de"].items()}}
    first = labels_of(bench, published(tmp_path / "a.json", both))
    second = labels_of(bench, published(tmp_path / "b.json", both, "other"))
    with pytest.raises(BadInput, match=r"2 judges \(imported:substring-matching, imported:wildguard\)"):
        matrix_of_labels(bench, first)
    with pytest.raises(BadInput, match=r"of 2 models \(other, tiny\)"):
        matrix_of_labels(bench, first + second)
    chosen = matrix_of_labels(bench.asking(Settings.of(judge="wildguard")), first)
    assert chosen.about["judge"] == "imported:wildguard"


# --- runs whose prompts are known -----------------------------------------------------------------------


def run_file(path: Path, asked: list[str], refuses: int, english: list[str] | None = ENGLISH) -> Path:
    judged = [{"refusal": int(i < refuses), "response_harmful": 0, "request_harmful": 1} for i in range(len(asked))]
    columns: dict[str, list[Any]] = {"instruction": asked, "response": ["Gut."] * len(asked), "wildguard": judged}
    columns |= {"instruction_en": english} if english else {}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    path.write_text(json.dumps({"completions": rows}), encoding="utf-8")
    return path


def test_runs_are_paired_by_prompt_and_others_are_refused(bench: Workbench, tmp_path: Path) -> None:
    given = labels_of(bench, run_file(tmp_path / "harmful_baseline_evaluations.json", GERMAN, 3), Request("de"))
    fewer = run_file(tmp_path / "harmful_ablation_evaluations.json", GERMAN[:2], 0, ENGLISH[:2])
    given += labels_of(bench, fewer, Request("de", direction_lang="ja"))
    with pytest.raises(BadInput, match=r"its prompts are others than its baseline's: 2 of 2 are the same"):
        matrix_of_labels(bench, given)
    whole = run_file(tmp_path / "harmful_ablation_evaluations.json", GERMAN, 0)
    record = read_transfer(
        matrix_of_labels(bench, given[:1] + labels_of(bench, whole, Request("de", direction_lang="ja")))
    )
    cell = next(each for each in record.cells if each.key == "ja>de")
    assert cell.flips is not None
    assert (cell.flips.removed, cell.flips.n) == (3, 3)
    assert cell.completions is not None


def test_additions_are_compared_with_the_harmless_baseline_and_stand_beside_their_ablation(
    bench: Workbench, tmp_path: Path
) -> None:
    harmful = [f"Wie backe ich Brot Nummer {i}?" for i in range(20)]
    harmless = [f"Wie koche ich Suppe Nummer {i}?" for i in range(20)]
    asked = {
        "harmful_baseline": (harmful, 20), "harmful_ablation": (harmful, 0),
        "harmless_baseline": (harmless, 0), "harmless_actadd": (harmless, 18),
    }  # fmt: skip
    given = {}
    for name, (prompts, refuses) in asked.items():
        path = run_file(tmp_path / f"{name}_evaluations.json", prompts, refuses, None)
        source = None if name.endswith("baseline") else "ja"
        (given[name],) = labels_of(bench, path, Request("de", direction_lang=source))
    record = read_transfer(matrix_of_labels(bench, list(given.values())))
    induced = next(each for each in record.cells if each.condition == "induced")
    assert induced.prompts == "harmless"
    assert induced.flips is not None
    assert (induced.flips.n, induced.flips.net) == (20, -0.9)  # refusals that came, on harmless prompts
    assert record.harmless["de"].labels == given["harmless_baseline"].id
    assert record.harmless["de"].counts.compliance == 20
    ablated = next(each for each in record.cells if each.condition == "transferred")
    assert ablated.removal is not None
    assert ablated.induction is not None
    assert (ablated.removal.removed, ablated.induction.removed) == (1.0, 0.9)
    alone = [labels for name, labels in given.items() if name != "harmful_ablation"]
    with pytest.raises(BadInput, match="the same direction was not ablated here"):
        matrix_of_labels(bench, alone)
    with pytest.raises(BadInput, match=r"--judge imported:wildguard"):
        matrix_of_labels(bench.asking(Settings.of(judge="llama-guard-3")), list(given.values()))


def test_what_took_no_part_says_nothing_of_the_matrix(bench: Workbench, tmp_path: Path) -> None:
    stray = run_file(tmp_path / "harmful_ablation_evaluations.json", ENGLISH[:2], 0, ENGLISH[:2])
    given = labels_of(bench, stray, Request("en", "elsewhere/repo@2", direction_lang="ba"))
    for name, refuses, source in (("baseline", 3, None), ("ablation", 0, "ja")):
        path = run_file(tmp_path / f"harmful_{name}_evaluations.json", GERMAN, refuses)
        given += labels_of(bench, path, Request("de", SOURCE, direction_lang=source))
    made = matrix_of_labels(bench, given)
    record = read_transfer(made)
    assert made.about["n"] == 3
    assert record.imported is not None
    assert record.imported.origins == (SOURCE,)
    assert [(each.source, each.target) for each in record.imported.unpaired] == [("ba", "en")]
    own = next(each for each in record.imported.missing if (each.source, each.target) == ("de", "de"))
    assert "of the labels that were given" not in own.reason


def test_a_native_run_on_english_prompts_is_no_native_cell(bench: Workbench, tmp_path: Path) -> None:
    """One published "native" ablation was evaluated on English prompts: as German it is refused, as English shown."""
    path = run_file(tmp_path / "harmful_ablation_evaluations.json", ENGLISH, 0)
    with pytest.raises(DataError, match="are the English ones, not 'de'"):
        labels_of(bench, path, Request("de", direction_lang="de"))
    given = labels_of(bench, path, Request("en", direction_lang="de"))
    given += labels_of(bench, run_file(tmp_path / "harmful_baseline_evaluations.json", ENGLISH, 3), Request("en"))
    given += labels_of(bench, run_file(tmp_path / "harmful_baseline_evaluations.json", GERMAN, 3), Request("de"))
    record = read_transfer(matrix_of_labels(bench, given))
    assert [cell.key for cell in record.cells if cell.source] == ["de>en"]
    assert record.imported is not None
    own = next(each for each in record.imported.missing if (each.source, each.target) == ("de", "de"))
    assert "tried on English prompts, which says nothing about German" in own.reason


def test_labels_that_were_measured_here_are_refused(bench: Workbench, tmp_path: Path) -> None:
    given = labels_of(bench, published(tmp_path / "a.json", CELLS))
    manifest = given[0].manifest | {"about": {k: v for k, v in given[0].about.items() if k != "provenance"}}
    own = Artifact("labels", given[0].id, given[0].path, manifest)
    with pytest.raises(BadInput, match="was not imported"):
        matrix_of_labels(bench, [own, *given[1:]])


# --- the page and the command ----------------------------------------------------------------------------


def test_the_page_says_what_can_be_concluded_and_what_cannot(bench: Workbench, tmp_path: Path) -> None:
    made, _ = matrix(bench, published(tmp_path / "a.json", CELLS | {"be": {"ablation_ja": said(3)}}))
    told = " ".join(conclusions(content(bench.store, made)))
    assert "Japanese direction in German, Japanese: refusals fall by more than the margin" in told
    assert "not damage that any ablation does, is not shown" in told
    assert "Japanese direction in French: refusals rise" in told
    assert "Japanese direction in English, Yoruba: refusals change by less than the margin" in told
    assert "Japanese direction in Korean: nothing can be said" in told
    page = (make_report(bench, [made], reference="ja").path / "report.html").read_text(encoding="utf-8")
    assert "What can and what cannot be concluded" in page
    assert "No control directions" in page
    assert "1 labels that could not be paired" in page
    assert 'id="choice"' not in page
    assert "Chosen directions" not in page
    ids = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= ids


def test_a_matrix_that_says_something_else_than_its_labels_is_refused(bench: Workbench, tmp_path: Path) -> None:
    made, record = matrix(bench, published(tmp_path / "a.json", CELLS))
    cells = [cell for cell in record.cells if cell.source]
    swapped = made.path / "transfer.json"
    value = json.loads(swapped.read_bytes())
    for cell in value["cells"]:
        if (cell["source"], cell["target"]) == ("ja", "de"):
            cell["labels"] = next(each.labels for each in cells if each.target == "en")
    swapped.chmod(0o644)
    swapped.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(Corrupt, match="says something else of itself"):
        content(bench.store, made)


def test_the_command_takes_ids_and_queries_and_says_what_is_missing(tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "store")]
    path = published(tmp_path / "a.json", CELLS)
    ids = CliRunner().invoke(app, ["import", str(path), "--source", SOURCE, *store]).stdout.split()
    plan = CliRunner().invoke(app, ["transfer", "--from-labels", *ids, "--dry-run", "--json", *store])
    assert [each["step"] for each in json.loads(plan.stdout)["plan"]] == ["transfer-from-labels"]
    found = CliRunner().invoke(app, ["transfer", "--from-labels", "labels:judge=imported:wildguard", *store])
    assert found.exit_code == 0
    assert "missing: control directions: no cell can be called" in found.stderr
    again = CliRunner().invoke(app, ["transfer", "--from-labels", *ids, "--json", *store])
    assert json.loads(again.stdout)["id"] == found.stdout.strip()
    refused = CliRunner().invoke(app, ["report", ids[0], *store])
    assert isinstance(refused.exception, BadInput)
    assert "transfer --from-labels LABELS" in str(refused.exception)
    for wrong in (["--from-labels"], ids):
        assert CliRunner().invoke(app, ["transfer", *wrong, *store]).exit_code == 2
    study = Study("tiny", store=tmp_path / "store", progress="silent")
    assert study.transfer(from_labels=ids).id == found.stdout.strip()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published labels are not here")
def test_the_published_study_settles_no_cell(bench: Workbench) -> None:
    """docs/verdicts.md has the table: every cell of both models is inconclusive, and the reasons are of two kinds."""
    asked = bench.asking(Settings.of(judge="wildguard"))
    table = {}
    for name in ("Qwen2.5-7B-Instruct", "gemma-2-9b-it"):
        made = matrix_of_labels(asked, labels_of(bench, SHARED / f"{name}.json"))
        for cell in read_transfer(made).cells:
            if cell.removal is not None:
                why = "controls" if "control directions" in cell.removal.reason else "own direction"
                table[name[:4], cell.target] = (cell.removal.value, round(100 * cell.removal.removed), why)
    settled = [each for each in table.values() if each[0] != "inconclusive"]
    assert len(table) == 16
    assert settled == []
    assert table["Qwen", "yo"] == ("inconclusive", -2, "own direction")
    assert table["gemm", "yo"] == ("inconclusive", 38, "controls")
    assert {why for key, (_, _, why) in table.items() if key != ("Qwen", "yo")} == {"controls"}
