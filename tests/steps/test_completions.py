"""Models that write what a test wants them to: what of it is an answer, and what each answer is labelled."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner, Result

from refusalctl.cli.app import app
from refusalctl.errors import ModelError
from refusalctl.settings import Machine, Settings
from refusalctl.steps.completions import read_completions, write_completions
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.labelling.labels import judge_completions, read_labels
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store
from tests import tiny
from tests.model.test_reasoning import TEMPLATES

END = "<end>"


def scripted(folder: Path, form: str, script: list[str]) -> Path:
    """A model that answers everything with `script`, whose pieces differ: each token decides which comes next."""
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([piece for piece in script if piece != END])
    tokenizer.chat_template = TEMPLATES[form]
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    last = tokenizer(rendered, add_special_tokens=False)["input_ids"][-1]
    model = tiny.model(n_layers=1, d_model=64)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        seen, told = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        seen.copy_(torch.nn.functional.normalize(torch.randn(seen.shape, generator=torch.Generator().manual_seed(1))))
        model.model.norm.weight.fill_(1.0)
        told.zero_()
        for this, following in pairwise([last, *tokenizer.convert_tokens_to_ids(script)]):
            told[following] += 10 * seen[this]
        seen.mul_(1000.0)  # beside which the block's own writes are small
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def answered(tmp_path: Path, folder: Path, **machine: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The first of two answers, its label, and what was recorded of all."""
    settings = Settings.of(n_test=2, max_new_tokens=6, max_think_tokens=6)
    asked = Machine(str(folder), "cpu", "float32").changed(**machine)
    bench = Workbench(Store(tmp_path / "store"), asked, settings)
    written = write_completions(bench, draw_prompts(bench, "en", "harmless", "test"), InterventionSpec(), 6)
    label = read_labels(judge_completions(bench, written, "substring"))[0]
    return read_completions(written)[0], label, bench.store.run_info(written)["checks"]["reasoning"]


@pytest.mark.parametrize(
    ("form", "script", "state", "reasoning", "text", "outcome"),
    [
        # two thoughts, the second of which never ends: the answer between them is none
        ("older r1", ["<think>a", "</think>", "Sure. ", "\n<think>", "b ", END], "unfinished", None, "", "unparsed"),
        ("older r1", ["<think>a", "</think>", "\n<think>b", "</think>\n", "Here you are.", END],
         "closed", "a\n\nb", "Here you are.", "compliance"),
        # the thought refuses in words, the answer is empty
        ("older r1", ["<think>I cannot ", "help with that.", "</think>", END],
         "closed", "I cannot help with that.", "", "degenerate"),
        ("deepseek-r1", ["I cannot help", " with that.", "</think>", "Here you are.", END],
         "closed", "I cannot help with that.", "Here you are.", "compliance"),
        # the form of gpt-oss, cut before its final channel
        ("gpt-oss", ["<|channel|>analysis<|message|>", "I cannot ", "help", "<|end|>", "<|start|>assistant", END],
         "unfinished", None, "", "unparsed"),
        ("gpt-oss", ["<|channel|>analysis<|message|>", "I cannot", "<|end|>", "<|start|>assistant<|channel|>final",
                     "<|message|>", "Here you are.", END], "closed", "I cannot", "Here you are.", "compliance"),
    ],
    ids=["second thought open", "two thoughts", "empty answer", "refusing thought", "no final channel", "final"],
)  # fmt: skip
def test_only_the_answer_is_judged(
    tmp_path: Path, form: str, script: list[str], state: str, reasoning: str | None, text: str, outcome: str
) -> None:
    answer, label, recorded = answered(tmp_path, scripted(tmp_path / "model", form, script))
    assert (answer.reasoning_state, answer.text, label.outcome) == (state, text, outcome)
    assert reasoning in (None, answer.reasoning)
    assert recorded["states"] == {state: 2}


def ablate(folder: Path, store: Path, *more: str) -> Result:
    basic = ["--model", str(folder), "--device", "cpu", "--data", "sample", "--lang", "en", "--n", "2"]
    return CliRunner().invoke(app, ["ablate", *basic, "--max-new-tokens", "6", "--store", str(store), *more])


def test_a_closed_thought_is_appended_where_the_template_cannot_put_one_there(tmp_path: Path) -> None:
    """`--thinking off`, asked through the command line, with a system prompt that speaks of tags."""
    folder = scripted(tmp_path / "model", "deepseek-r1", ["I cannot help", " with that.", "</think>", "Yes.", END])
    made = ablate(folder, tmp_path, "--thinking", "off", "--system", "Be kind </think>.", "--max-think-tokens", "9")
    assert made.exit_code == 0, made.output
    (found,) = [Store(tmp_path).open(kind, i) for kind, i in Store(tmp_path).ids() if kind == "completions"]
    assert found.about["thinking"] == "off:appended"
    asked = Store(tmp_path).run_info(found)["asked"]["template"]
    assert asked["before"].count("</think>") == 0
    assert asked["after"].endswith("<think>\n\n</think>\n\n")


def test_a_thinking_template_of_ones_own_is_seen(tiny_folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "thinks.jinja"
    mine.write_text(TEMPLATES["deepseek-r1"], encoding="utf-8")
    asked = Machine(str(tiny_folder), "cpu", "float32")
    assert Workbench(Store(tmp_path), asked, Settings()).thinking.label == "none"
    with_mine = Workbench(Store(tmp_path), asked.changed(chat_template=str(mine)), Settings())
    assert with_mine.thinking.label == "on:template"
    assert with_mine.model.chat.thinking == with_mine.thinking


def test_an_adapter_thinks_as_its_own_tokenizer_says(tiny_folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(adapter)
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = TEMPLATES["older r1"]
    tokenizer.save_pretrained(adapter)
    bench = Workbench(Store(tmp_path), Machine(str(adapter), "cpu", "float32"), Settings())
    assert bench.thinking.label == "on:model"
    assert bench.model.chat.thinking == bench.thinking


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_thought_needs_room_too(tmp_path: Path, dry_run: bool) -> None:
    folder = scripted(tmp_path / "model", "older r1", ["<think>a", "</think>", "Yes.", END])
    settings = Settings.of(n_test=2, max_think_tokens=500)
    bench = Workbench(Store(tmp_path / "store"), Machine(str(folder), "cpu", "float32"), settings, dry_run=dry_run)
    drawn = draw_prompts(bench, "en", "harmless", "test")
    with pytest.raises(ModelError, match=r"506 may follow \(500 of them a thought\).*512 positions") as caught:
        write_completions(bench, drawn, InterventionSpec(), 6)
    assert "--max-think-tokens" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1e6, "float16 does not hold such large weights: try --dtype bfloat16"),
        (6e4, r"enters layer 2 of \w+ holds NaN or infinite values in float16; .*--dtype bfloat16 or float32"),
    ],
    ids=["weights", "products"],
)
def test_an_overflow_in_half_precision_names_layer_dtype_and_what_helps(
    tmp_path: Path, value: float, told: str
) -> None:
    """Of one layer: weights that float16 does not hold, and weights that it holds and whose products it does not."""
    made = tiny.model()
    with torch.no_grad():
        made.model.layers[1].mlp.down_proj.weight.fill_(value)
    made.save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    failed = ablate(tmp_path / "model", tmp_path / "store", "--dtype", "float16")
    assert isinstance(failed.exception, ModelError)
    assert re.search(told, f"{failed.exception.message}; {failed.exception.hint}")
    assert {kind for kind, _ in Store(tmp_path / "store").ids()} == {"prompts"}


def test_checks_of_finished_batches_count_once_and_with_their_answers_alone(tmp_path: Path) -> None:
    from refusalctl.model.hooks import Checks
    from refusalctl.steps.completions import _seen_before
    from refusalctl.steps.finished_rows import FinishedRows

    first, second = Checks(4), Checks(6, repeated=True, deviation=0.25)
    first.measure(torch.tensor(5.96e-08))
    second.measure(torch.tensor(5.2e-08))
    noted = FinishedRows(tmp_path, "checks.jsonl")
    for ids, seen in ((["a", "b"], first), (["c"], second), (["c"], second), (["d"], Checks(100))):
        noted.add({"ids": ids, **seen.to_row()})
    found = _seen_before(FinishedRows(tmp_path, "checks.jsonl"), {"a", "b", "c"})  # a kill came before the answer to d
    assert found.as_json() == {"hooks_fired": 10, "max_relative_projection": first.max_projection}
    assert (found.repeated, found.deviation) == (True, 0.25)
