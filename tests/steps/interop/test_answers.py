"""Data sets and logs: their rows, their metadata, and no text unless it was asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from refusalctl.errors import BadInput, NotFound
from refusalctl.interop.dataset import check_folder
from refusalctl.interop.rows import text_digest
from refusalctl.steps.interop.answers import export_dataset, export_log, tables
from refusalctl.store.hashing import file_digest
from refusalctl.store.store import Artifact, Store
from tests.steps.interop.world import SECRET, answers_store


@pytest.fixture
def held(tmp_path: Path) -> tuple[Store, list[Artifact]]:
    return answers_store(tmp_path / "store")


def content(folder: Path) -> str:
    return "".join(p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*")) if p.is_file())


def test_texts_are_written_on_request_alone(held: tuple[Store, list[Artifact]], tmp_path: Path) -> None:
    export_dataset(*held, tmp_path / "without", form="jsonl", texts=False)
    export_dataset(*held, tmp_path / "with", form="jsonl", texts=True)
    assert SECRET not in content(tmp_path / "without")
    rows = [json.loads(line) for line in (tmp_path / "with" / "data" / "completions.jsonl").read_text().splitlines()]
    hashed = [
        json.loads(line) for line in (tmp_path / "without" / "data" / "completions.jsonl").read_text().splitlines()
    ]
    assert [text_digest(row["answer"]) for row in rows] == [row["answer_sha256"] for row in hashed]
    assert "not-for-all-audiences" in (tmp_path / "with" / "README.md").read_text()
    assert "not-for-all-audiences" not in (tmp_path / "without" / "README.md").read_text()


def test_labels_say_what_the_judge_said_and_what_it_did_not_say_is_empty(held: tuple[Store, list[Artifact]]) -> None:
    labels = next(t for t in tables(*held, texts=False) if t.name == "labels")
    told = [(row["prompt_id"], row["outcome"], row["harmful"], row["off_language"]) for row in labels.rows]
    assert told == [("p0", "refusal", None, False), ("p1", "compliance", True, True), ("p2", "degenerate", None, None)]


def test_the_revision_is_the_recipes_and_labels_have_it_from_their_answers(
    held: tuple[Store, list[Artifact]], tmp_path: Path
) -> None:
    assert {row["revision"] for table in tables(*held, texts=False) for row in table.rows} == {"r1"}
    export_dataset(*held, tmp_path / "set", form="jsonl", texts=False)
    assert "tiny@r1" in (tmp_path / "set" / "croissant.json").read_text()


def test_a_card_says_no_more_of_imported_answers_than_is_known(
    held: tuple[Store, list[Artifact]], tmp_path: Path
) -> None:
    store, artifacts = held
    export_dataset(store, artifacts, tmp_path / "own", form="jsonl", texts=False)
    theirs = [replace(a, manifest=a.manifest | {"about": a.about | {"provenance": "imported"}}) for a in artifacts]
    export_dataset(store, theirs, tmp_path / "theirs", form="jsonl", texts=False)
    for said in ("greed", "one rule", "Each judge"):
        assert said in content(tmp_path / "own")
        assert said not in content(tmp_path / "theirs")


def test_metadata_names_every_file_with_its_digest(held: tuple[Store, list[Artifact]], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path / "set"
    written = export_dataset(*held, folder, form="parquet", texts=False)
    told = json.loads((folder / "croissant.json").read_text())
    assert told["conformsTo"][0] == "http://mlcommons.org/croissant/1.1"
    assert {each["contentUrl"]: each["sha256"] for each in told["distribution"]} == {
        str(path.relative_to(folder)): file_digest(path) for path in written if path.suffix == ".parquet"
    }
    assert "license" not in told  # nobody said one
    assert told["rai:machineAnnotationTools"] == ["substring"]


def test_a_folder_of_somebody_is_not_replaced(held: tuple[Store, list[Artifact]], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my own\n")
    with pytest.raises(BadInput, match="is there already"):
        check_folder(tmp_path / "mine", replace=True)
    export_dataset(*held, tmp_path / "ours", form="jsonl", texts=False)
    with pytest.raises(BadInput, match="--replace"):
        check_folder(tmp_path / "ours", replace=False)
    check_folder(tmp_path / "ours", replace=True)  # a check deletes nothing
    there = {path.name for path in (tmp_path / "ours" / "data").iterdir()}
    assert there == {"completions.jsonl", "labels.jsonl"}
    labels = [each for each in held[1] if each.kind == "labels"]
    export_dataset(held[0], labels, tmp_path / "ours", form="jsonl", texts=False)
    assert [path.name for path in (tmp_path / "ours" / "data").iterdir()] == ["labels.jsonl"]


def test_lost_prompts_are_an_error_and_no_empty_column(held: tuple[Store, list[Artifact]], tmp_path: Path) -> None:
    from refusalctl.disk import remove_tree

    store, artifacts = held
    remove_tree(store.root / "prompts")
    with pytest.raises(NotFound, match="the prompts of completions/"):
        tables(store, artifacts, texts=False)
    with pytest.raises(BadInput, match="expected completions or labels"):
        tables(store, [Artifact("geometry", "a" * 64, tmp_path, {})], texts=False)


def test_an_inspect_log_keeps_outcomes_as_words(held: tuple[Store, list[Artifact]], tmp_path: Path) -> None:
    log = pytest.importorskip("inspect_ai.log")
    store, artifacts = held
    for texts in (False, True):
        path = tmp_path / f"{texts}.eval"
        export_log(store, artifacts[1], path, texts=texts)
        read = log.read_eval_log(str(path))
        assert {s.id: s.scores["substring"].value for s in read.samples} == {
            "p0": "refusal", "p1": "compliance", "p2": "degenerate"
        }  # fmt: skip
        assert read.eval.model_generate_config.max_tokens == 8
        assert (SECRET in read.model_dump_json()) == texts
