"""What of a task enters a recipe: its name, its files' digest, and lm-eval's version."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.errors import BadInput
from refusalctl.steps.costs.benchmark import asked_task

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "cost" / "everyday.yaml"


def test_a_local_task_is_known_by_everything_in_its_folder(tmp_path: Path) -> None:
    file, data = tmp_path / "mine.yaml", tmp_path / "data" / "rows.jsonl"
    data.parent.mkdir()
    file.write_text('# a comment\ntask: "mine"  # its name\nmetric_list:\n  - metric: acc\n')
    data.write_text('{"question": "a"}\n')
    first = asked_task(str(file), 5, chat=True)
    assert (first.task.name, first.task.folder, first.task.limit, first.task.chat) == ("mine", tmp_path, 5, True)
    assert asked_task(str(file)).files == first.files
    data.write_text('{"question": "b"}\n')
    assert asked_task(str(file)).files != first.files
    assert asked_task(str(EXAMPLE)).task.name == "everyday"


def test_a_name_is_lm_eval_s_own() -> None:
    found = asked_task("belebele_tgk_Cyrl")
    assert (found.task.name, found.task.folder, found.files) == ("belebele_tgk_Cyrl", None, None)


def test_a_file_that_is_no_task_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.yaml"):
        asked_task(str(tmp_path / "none.yaml"))
    (tmp_path / "group.yaml").write_text("group: many\ntask:\n  - a\n  - b\n")
    with pytest.raises(BadInput, match=r"group\.yaml names no task"):
        asked_task(str(tmp_path / "group.yaml"))
