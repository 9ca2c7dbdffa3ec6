"""Where a model keeps its chat template, and which one is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.files.templates import chat_template


def put(folder: Path, name: str, value: object) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def test_every_place_is_looked_at_and_files_win_over_settings(tmp_path: Path) -> None:
    put(tmp_path, "chat_template.json", {"chat_template": "one"})
    assert chat_template(tmp_path, "m") == "one"
    put(tmp_path, "tokenizer_config.json", {"chat_template": "two"})
    assert chat_template(tmp_path, "m") == "two"
    put(tmp_path, "chat_template.jinja", "three")
    put(tmp_path, "additional_chat_templates/rag.jinja", "four")
    assert chat_template(tmp_path, "m") == "three"
    assert chat_template(tmp_path, "m", "rag") == "four"


def test_named_templates_without_a_default_are_listed(tmp_path: Path) -> None:
    put(tmp_path, "tokenizer_config.json", {"chat_template": [{"name": "rag", "template": "r"},
                                                              {"name": "tool_use", "template": "t"}]})  # fmt: skip
    with pytest.raises(ModelError, match="no default: rag, tool_use") as caught:
        chat_template(tmp_path, "m")
    assert "--chat-template NAME" in (caught.value.hint or "")
    assert chat_template(tmp_path, "m", "rag") == "r"


def test_a_file_is_taken_instead_of_the_models_own(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no chat template"):
        chat_template(tmp_path, "m")
    put(tmp_path, "mine.jinja", "\ufeffmine")
    put(tmp_path, "mine.json", {"chat_template": "json"})
    assert chat_template(tmp_path, "m", str(tmp_path / "mine.jinja")) == "mine"
    assert chat_template(tmp_path, "m", str(tmp_path / "mine.json")) == "json"
    for absent in ("nobody", "", str(tmp_path)):
        with pytest.raises(BadInput, match="neither a file nor a template"):
            chat_template(tmp_path, "m", absent)
    put(tmp_path, "empty.jinja", " \n")
    with pytest.raises(BadInput, match="is empty"):
        chat_template(tmp_path, "m", str(tmp_path / "empty.jinja"))


def test_settings_that_are_no_json_are_the_cause_that_is_named(tmp_path: Path) -> None:
    put(tmp_path, "tokenizer_config.json", "{")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json is not JSON"):
        chat_template(tmp_path, "m")
