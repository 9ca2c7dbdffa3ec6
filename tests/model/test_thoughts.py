"""Thought and answer in what a model wrote: by tags, by channels, and while it is written."""

from __future__ import annotations

from typing import Any

import pytest

from refusalctl.model.chat import open_chat
from refusalctl.model.thoughts import Parts, Reader, Written
from tests import tiny
from tests.model.test_reasoning import TEMPLATES


def reader(form: str, asked: Any = "auto", tokens: tuple[str, ...] = (), special: tuple[str, ...] = ()) -> Reader:
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(list(tokens))
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = TEMPLATES[form]
    return Reader(tokenizer, open_chat(tokenizer, thinking=asked).thinking)


def read(each: Reader, text: str) -> Parts:
    return each.read(each.tokenizer(text, add_special_tokens=False)["input_ids"])


SPECIAL = ("<think>", "</think>")


@pytest.mark.parametrize(
    ("form", "text", "reasoning", "answer", "state"),
    [
        ("deepseek-r1", "I cannot\n</think>\n\nHere you are.", "I cannot", "Here you are.", "closed"),
        ("deepseek-r1", "<think>\nHm.\n</think>\nYes.", "<think>\nHm.", "Yes.", "closed"),
        ("deepseek-r1", "\n</think>\n\nYes.", "", "Yes.", "empty"),
        ("deepseek-r1", "Hm, I should", "Hm, I should", "", "unfinished"),
        ("deepseek-r1", "a <think> b </think> c </think> Yes.", "a <think> b </think> c", "Yes.", "closed"),
        ("deepseek-r1", "They ask of <think> tags. </think> Yes.", "They ask of <think> tags.", "Yes.", "closed"),
        ("older r1", "<think>Hm.</think>Yes.", "Hm.", "Yes.", "closed"),
        ("older r1", "Hm.\n</think>\n\nYes.", "Hm.", "Yes.", "closed"),
        ("older r1", "<think>a</think>\n<think>b</think>Yes.", "a\n\nb", "Yes.", "closed"),
        ("older r1", "<think>a</think>\n<think>b", "a\n\nb", "", "unfinished"),
        ("older r1", "<think>a</think>Yes.\n<think>b</think>\nNo.", "a\n\nb", "Yes.\n\nNo.", "closed"),
        ("older r1", "<think>a</think>Yes.\n<think>b", "a\n\nb", "", "unfinished"),
        ("older r1", "<think>a</think>Write <think> first.", "a", "Write <think> first.", "closed"),
        ("older r1", "Plain.", None, "Plain.", "none"),
        ("older r1", "<think>a</think> <answer>Yes.</answer>", "a", "Yes.", "closed"),
        ("magistral", "[THINK]Hm.[/THINK]Yes.", "Hm.", "Yes.", "closed"),
        ("granite", "Here is my thought process: Hm. Here is my response: Yes.", "Hm.", "Yes.", "closed"),
        ("past turn", "<<musing>>Hm.<</musing>>Yes.", "Hm.", "Yes.", "closed"),
        ("plain", "The tags <think> and </think> are used.", None, "The tags <think> and </think> are used.", "none"),
        ("plain", "<think> and </think> are tags.", None, "<think> and </think> are tags.", "none"),
        ("plain", "<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes.", "closed"),
        ("plain", "<think>\nHm. I", "Hm. I", "", "unfinished"),
        ("gpt-oss", "<|channel|>analysis<|message|>I can't.<|end|><|start|>assistant<|channel|>final<|message|>Yes.",
         "I can't.", "Yes.", "closed"),
        ("gpt-oss", "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>So",
         "Hm.So", "", "unfinished"),
        ("gpt-oss", "<|channel|>final<|message|>Yes.", None, "Yes.", "none"),
        ("gpt-oss", "<|channel|>analysis<|message|>Hm", "Hm", "", "unfinished"),
        ("gpt-oss", "Plain.", None, "Plain.", "none"),
    ],
)  # fmt: skip
def test_thought_and_answer_are_told_apart(form: str, text: str, reasoning: str, answer: str, state: str) -> None:
    found = read(reader(form), text)
    assert (found.reasoning, found.text, found.state) == (reasoning, answer, state)


@pytest.mark.parametrize("kind", ["special", "tokens"])
def test_tags_may_be_special_tokens_that_decoding_drops(kind: str) -> None:
    each = reader("older r1", **{kind: SPECIAL})
    found = read(each, "<think>I cannot.</think>\n\nYes.")
    assert (found.reasoning, found.text, found.n_reasoning) == ("I cannot.", "Yes.", 11)
    assert each.tokenizer.decode(found.ids) == "Yes."
    assert found.form == "<think> opened by the model"


def test_ids_and_counts_are_those_of_the_answer_alone() -> None:
    found = read(reader("deepseek-r1"), "ab</think>\n\nYes")
    assert (len(found.ids), found.n_reasoning, found.start) == (3, 10, 10)


def test_a_model_that_nothing_says_to_think_keeps_its_text_as_it_is() -> None:
    each = reader("plain")
    ids = each.tokenizer("  Two words\n", add_special_tokens=False)["input_ids"]
    assert each.read(ids) == Parts(ids, "  Two words\n")
    assert not each.watches


# --- while it is written ----------------------------------------------------------------------------------


def written(each: Reader, text: str, think: int, new: int) -> Written:
    found = Written(each, frozenset({259}), think, new)
    for token in each.tokenizer(text, add_special_tokens=False)["input_ids"]:
        if found.push(token):
            break
    return found


def test_a_thought_has_a_budget_of_its_own() -> None:
    each = reader("deepseek-r1")
    spent = written(each, "a" * 40, think=20, new=5)
    assert (len(spent.ids), spent.truncated, spent.start) == (20, True, None)
    cut = written(each, "abc</think>yes and more", think=20, new=5)
    assert (len(cut.ids), cut.truncated, cut.start) == (11 + 5, True, 11)
    ended = written(each, "abc</think>yes<end>", think=20, new=5)
    assert (each.read(ended.ids).text, ended.truncated) == ("yes", False)
    inside = written(each, "abc<end>", think=20, new=5)
    assert (each.read(inside.ids).state, inside.truncated) == ("unfinished", False)


def test_an_answer_without_a_thought_has_the_answers_budget() -> None:
    cut = written(reader("older r1"), "<thin ice is dangerous", think=100, new=8)
    assert len(cut.ids) == 8


def test_the_end_of_analysis_does_not_end_the_turn_and_the_end_of_the_answer_does() -> None:
    each = reader("gpt-oss", special=("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|return|>"))
    (end,) = each.soft_ends
    text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|end|>more"
    found = Written(each, frozenset({end}), 100, 100)
    for token in each.tokenizer(text, add_special_tokens=False)["input_ids"]:
        if found.push(token):
            break
    assert (each.read(found.ids).text, each.read(found.ids).reasoning) == ("Yes.", "Hm.")
    assert (found.ended, found.truncated) == (True, False)
