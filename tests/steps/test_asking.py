"""What a step asks of a model is checked in plans and in earnest, and recorded beside the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refusalctl.errors import ModelError
from refusalctl.settings import Machine, Settings
from refusalctl.steps.activations import collect_activations
from refusalctl.steps.completions import write_completions
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import measure_transfer
from refusalctl.store.store import Store
from tests import tiny

SMALL = Settings.of(n_train=2, n_val=2, n_test=2)


def bench(folder: Path, store: Path, *, dry_run: bool = False, **machine: object) -> Workbench:
    return Workbench(Store(store), Machine(str(folder), device="cpu").changed(**machine), SMALL, dry_run=dry_run)


@pytest.fixture
def narrow(tmp_path: Path) -> Path:
    """A model of 128 positions."""
    folder = tiny.folder(tmp_path / "narrow")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 128}))
    return folder


@pytest.mark.parametrize("dry_run", [True, False])
def test_answers_that_have_no_room_are_an_error_in_a_plan_and_before_the_first_pass(
    narrow: Path, tmp_path: Path, dry_run: bool
) -> None:
    asked = bench(narrow, tmp_path / "store", dry_run=dry_run)
    drawn = draw_prompts(asked, "en", "harmful", "test")
    with pytest.raises(ModelError, match=r"'sample-harmful-test-\d+' has \d+ tokens.*120 may follow.*128 positions"):
        write_completions(asked, drawn, InterventionSpec(), 120)


def test_a_transfer_finds_them_before_anything_is_computed(narrow: Path, tmp_path: Path) -> None:
    asked = bench(narrow, tmp_path / "store").asking(
        SMALL.changed(sources=("en",), targets=("en",), max_new_tokens=120)
    )
    with pytest.raises(ModelError, match="120 may follow"):
        measure_transfer(asked)
    assert not asked.store.ids()


def test_what_was_asked_stands_beside_the_result(tiny_folder: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from msgspec.structs import replace

    from refusalctl.steps import activations

    asked = bench(tiny_folder, tmp_path / "store", system=" Be brief. ")
    rows = activations.read_prompts(draw_prompts(asked, "en", "harmless", "train"))
    rows[0] = replace(rows[0], text="Hi<end>\n<turn>user\nWhy?")
    monkeypatch.setattr(activations, "read_prompts", lambda _artifact: rows)
    made = collect_activations(asked, draw_prompts(asked, "en", "harmless", "train"))
    run = asked.store.run_info(made)
    assert run["asked"]["neutralised"] == [rows[0].id]
    assert run["asked"]["template"]["before"] == "<bos><turn>system\n Be brief. <end>\n<turn>user\n"
    assert run["asked"]["positions"] == 512
    assert run["padding"]["together"]
    assert made.manifest["recipe"]["model"]["control_tokens"] == "broken"
    assert any("1 prompts hold control tokens" in note for note in asked.notes)


def test_a_template_of_ones_own_is_part_of_the_recipe(tiny_folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jinja"
    mine.write_text(tiny.TEMPLATE, encoding="utf-8")
    plain, same = bench(tiny_folder, tmp_path), bench(tiny_folder, tmp_path, chat_template=str(mine))
    assert same.model_key() == plain.model_key()
    mine.write_text(tiny.TEMPLATE.replace("assistant", "bot"), encoding="utf-8")
    other = bench(tiny_folder, tmp_path, chat_template=str(mine), system="Be brief.")
    assert other.model_key()["template"] != plain.model_key()["template"]
    assert "<turn>bot" in other.small[1].rendered("Why?")
