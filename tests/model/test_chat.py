"""Templates: where an answer ends, and conversations that a template refuses."""

from __future__ import annotations

import pytest

from refusalctl.errors import ModelError
from refusalctl.model.chat import end_of_turn, open_chat, render
from tests import tiny

# as Gemma's: no system turn
STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


def test_the_end_of_turn_is_the_token_that_the_template_writes_after_an_answer() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "<pad>"  # generation settings that name another token
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids("<end>")


def test_a_template_that_writes_plain_text_after_an_answer_has_no_end_token() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = tiny.TEMPLATE.replace("<end>", "")
    assert end_of_turn(tokenizer) is None


def test_a_system_prompt_that_the_template_refuses_is_a_known_error() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = STRICT + tiny.TEMPLATE
    assert "Why" in render(tokenizer, "Why?")
    with pytest.raises(ModelError, match="System role not supported") as caught:
        open_chat(tokenizer, system="Be brief.")
    assert "leave --system out" in (caught.value.hint or "")
