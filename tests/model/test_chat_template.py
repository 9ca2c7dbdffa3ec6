"""What a template may make of a conversation, and that each loss is named."""

from __future__ import annotations

import pytest

from refusalctl.errors import ModelError
from refusalctl.model.chat import open_chat
from tests import tiny

CONTENT = "m['content']"


def chat(content: str = CONTENT, system: str | None = None, *, behind: str = "", loop: str = ""):  # type: ignore[no-untyped-def]
    made = tiny.tokenizer()
    made.chat_template = tiny.TEMPLATE.replace(CONTENT, content).replace("in messages", f"in messages{loop}") + behind
    return open_chat(made, system)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("m['content']|lower", "upper and lower case"),
        ("m['content'][:11]", "cuts this prompt"),
        ("m['content'][:30]", "cuts this prompt"),  # which shorter probes do not show
        ("m['content']|e", "as HTML"),
        ("m['content'] + m['content']", "writes the prompt 2 times"),
        ("'hello'", "drops or rewrites the prompt"),
        ("m['content']|replace('a', 'b')", "rewrites this prompt"),
    ],
)
def test_a_prompt_that_does_not_stand_whole_and_once_is_an_error_with_its_cause(content: str, cause: str) -> None:
    with pytest.raises(ModelError, match=cause):
        chat(content).encode("Tell me about <b>Parrots</b> & their Food")


def test_whitespace_around_a_prompt_may_go_and_is_recorded() -> None:
    opened = chat("m['content']|trim")
    assert opened.read("  Why?\n").trimmed
    assert opened.read("  Why?\n").ids == opened.encode("Why?")
    assert not opened.read("Why?").trimmed


@pytest.mark.parametrize("text", ["user", "assistant", "Be brief.", "e", "<"])
def test_a_prompt_that_the_template_or_the_system_text_also_holds_is_found_in_its_own_place(text: str) -> None:
    assert text in chat(system="Be brief.").rendered(text)
    chat(system="Be brief.").encode(text)


def test_a_system_text_that_the_template_drops_is_an_error() -> None:
    with pytest.raises(ModelError, match="drops the system prompt"):
        chat(system="Be brief.", loop=" if m['role'] == 'user'")
    with pytest.raises(ModelError, match=r"drops the system prompt.*empty"):
        chat(system="", loop=" if m['content']")
    chat(system="")  # an empty system turn differs from none


def test_a_system_text_in_the_users_turn_counts_and_a_cut_one_does_not() -> None:
    made = tiny.tokenizer()
    joined = (
        "{% set s = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}<bos><turn>user\n{{ s }}\n\n"
    )
    made.chat_template = joined + "{{ messages[-1]['content'] }}<end>\n<turn>assistant\n"
    assert "Be brief.\n\nWhy?" in open_chat(made, "Be brief.").rendered("Why?")
    made.chat_template = (
        joined.replace("{{ s }}", "{{ s[:12] }}") + "{{ messages[-1]['content'] }}<end>\n<turn>assistant\n"
    )
    with pytest.raises(ModelError, match="cuts this system prompt"):
        open_chat(made, "Be brief, and kind to all.")


def test_content_as_a_list_of_parts_is_served() -> None:
    assert "Why?" in chat("m['content'][0]['text']", "Be brief.").rendered("Why?")
    looped = "{% for m in messages %}<turn>{{ m['role'] }}\n{% for p in m['content'] %}{% if p['type'] == 'text' %}"
    made = tiny.tokenizer()
    made.chat_template = looped + "{{ p['text'] }}{% endif %}{% endfor %}<end>\n{% endfor %}<turn>assistant\n"
    assert "<turn>user\nWhy?<end>" in open_chat(made).rendered("Why?")


@pytest.mark.parametrize(
    ("behind", "cause"),
    [
        ("{% if %}", "no valid Jinja.*line 1"),
        ("{{ 'x'|nosuch }}", "No filter named 'nosuch'"),
        ("{{ nothing.here }}", "'nothing' is undefined"),
        ("{{ tools|length }}", "TypeError"),
        ("{{ raise_exception('Roles must alternate') }}", "refuses this conversation: Roles must alternate"),
    ],
)
def test_a_template_that_fails_is_one_line_with_the_cause_chained(behind: str, cause: str) -> None:
    with pytest.raises(ModelError, match=cause) as caught:
        chat(behind=behind)
    assert caught.value.__cause__ is not None
    assert "--chat-template" in (caught.value.hint or "")
