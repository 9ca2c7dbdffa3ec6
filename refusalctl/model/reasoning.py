"""How a model thinks before it answers, by its template, its tokens and what it was asked; no torch is needed to tell.

A model may write its thoughts between tags (`<think>` ... `</think>`) or in channels of their own (gpt-oss: `analysis`
before `final`). The opening tag is written by the template or by the model, and some templates can put a closed, empty
thought in its place. Evidence, in this order: what the template writes where the answer begins, a past turn with
thoughts as the template writes it, tags that template or system prompt speak of, tags that are tokens of their own.
Text alone is evidence only where an answer begins with a tag on a line of its own (`thoughts`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from refusalctl.errors import ModelError

Asked = Literal["auto", "off", "on"]
Arm = Literal["none", "off", "on"]
Stands = Literal["open", "closed"] | None


class Form(NamedTuple):
    """Tags around a thought, and those around the answer behind it, where there are any."""

    opens: str
    closes: str
    answer: tuple[str, str] | None = None


_START, _CHANNEL, _MESSAGE, END_OF_MESSAGE = "<|start|>", "<|channel|>", "<|message|>", "<|end|>"
# OpenAI's harmony format (gpt-oss): each message has a header with its channel
CHANNELS = Form(f"{_CHANNEL}analysis{_MESSAGE}", END_OF_MESSAGE)
_TO_FINAL = f"{_START}assistant{_CHANNEL}final{_MESSAGE}"
FORMS = (
    Form("<think>", "</think>"),
    Form("[THINK]", "[/THINK]"),
    Form("<thinking>", "</thinking>"),
    Form("<thought>", "</thought>"),
    Form("<thoughts>", "</thoughts>"),
    Form("<reasoning>", "</reasoning>"),
    Form("<reason>", "</reason>"),
    Form("<seed:think>", "</seed:think>"),
    Form("<longcat_think>", "</longcat_think>"),
    Form("◁think▷", "◁/think▷"),
    Form("<|think|>", "<|/think|>"),
    Form("<|thinking|>", "<|/thinking|>"),
    Form("<|begin_of_thought|>", "<|end_of_thought|>", ("<|begin_of_solution|>", "<|end_of_solution|>")),
    Form("<|START_THINKING|>", "<|END_THINKING|>", ("<|START_RESPONSE|>", "<|END_RESPONSE|>")),
    Form("Here is my thought process:", "Here is my response:"),
)
# around answers, with whatever tags the thoughts have
ANSWER_TAGS = ("<answer>", "</answer>")
_SWITCHES = ("enable_thinking", "thinking", "reasoning_content", _CHANNEL)


@dataclass(frozen=True)
class Thinking:
    """What was decided of a model's thoughts: an arm of every recipe.

    `arm`: `none` where nothing says that the model thinks, `off` with a closed, empty thought (or the template's own
    way of asking for none), `on` with the model's own thought. `by`: the template, or tags that were appended to the
    prompt; for `on`, who opens the thought: the template or the model. `evidence` says what told. `close` is what is
    appended to the prompt where a thought must be over (`off`, and wherever openings are scored); `stands` whether the
    prompt ends inside a thought or behind one.
    """

    arm: Arm = "none"
    by: Literal["", "template", "appended", "model"] = ""
    forms: tuple[Form, ...] = ()
    evidence: str = ""
    close: str = ""
    stands: Stands = None

    @property
    def label(self) -> str:
        """As recipes hold it: `none`, `off:template`, `off:appended`, `on:template` or `on:model`."""
        return f"{self.arm}:{self.by}" if self.by else self.arm

    @property
    def in_channels(self) -> bool:
        return self.forms[:1] == (CHANNELS,)

    @property
    def appended(self) -> str:
        """What is written behind the template's generation prompt before the model answers."""
        return self.close if self.by == "appended" else ""


NONE = Thinking()


class Sources(NamedTuple):
    """What is looked at. `begins(on)`: what the template writes where an answer begins, with thoughts asked for or
    not; `whole(on)`: all of that prompt; `turn()`: a past answer with its thought, None where the template has none."""

    template: str
    system: str
    begins: Callable[[bool], str]
    whole: Callable[[bool], str]
    turn: Callable[[], tuple[str, str] | None]
    is_token: Callable[[str], bool]


def decide(asked: Asked, found: Sources) -> Thinking:
    """The arm for a model. Raises `ModelError` where thoughts are asked for that its prompt rules out.

    `auto` is the template's non-thinking mode where it offers one, else the model's own thought, `none` for a model
    that nothing says to think.
    """
    forms, evidence = _evidence(found)
    if not forms:
        return NONE if asked != "on" else Thinking("on", "model", FORMS, "declared by --thinking on", _closed(FORMS[0]))
    on, off = found.begins(True), found.begins(False)
    at_on, at_off = stands(on, forms), stands(off, forms)
    offered = at_off == "closed" or (found.whole(True) != found.whole(False) and at_off is None)
    if asked != "on" and offered:
        return Thinking("off", "template", forms, evidence, "", at_off)
    close = off[len(on) :] if at_off == "closed" and off.startswith(on) else _closing(at_on, forms[0], found)
    if asked == "off":
        return Thinking("off", "appended", forms, evidence, close, "closed")
    if at_on == "closed":
        raise ModelError(
            "the chat template puts a closed, empty thought before the answer although thoughts were asked for",
            hint="does the system prompt switch them off? leave --thinking on out",
        )
    return Thinking("on", "template" if at_on == "open" else "model", forms, evidence, close, at_on)


def _evidence(found: Sources) -> tuple[tuple[Form, ...], str]:
    """Forms that this model may write, the surest first, and what told."""
    if all(part in found.template for part in (_CHANNEL, _MESSAGE)):
        return (CHANNELS,), "channels in the chat template"
    begins = found.begins(True), found.begins(False)
    told = [form for form in FORMS if any(stands(text, (form,)) for text in begins)]
    if told:
        return tuple(told), "the chat template, where the answer begins"
    told = [f for f in FORMS if _speaks_of(found.template, f)]
    if told:
        return tuple(told), "tags in the chat template"
    turn = found.turn()
    if turn is not None:
        return (Form(*turn),), "a past turn, as the chat template writes it"
    told = [f for f in FORMS if _speaks_of(found.system, f)]
    if told:
        return tuple(told), "tags in the system prompt"
    if found.is_token(_CHANNEL) and found.is_token(_MESSAGE):
        return (CHANNELS,), "channels among the tokens"
    told = [f for f in FORMS if found.is_token(f.opens) and found.is_token(f.closes)]
    return tuple(told), "tags among the tokens"


def _speaks_of(text: str, form: Form) -> bool:
    return form.closes in text or form.opens in text


def stands(text: str, forms: tuple[Form, ...]) -> Stands:
    """Whether a text leaves a thought open, or ends behind one."""
    for form in forms:
        opened, closed = text.rfind(form.opens), text.rfind(form.closes)
        if form == CHANNELS and opened < 0:
            continue
        if max(opened, closed) >= 0:
            return "open" if opened > closed else "closed"
    return None


def _closing(at: Stands, form: Form, found: Sources) -> str:
    """What ends the thought of a prompt, or puts an empty one there."""
    if form == CHANNELS:
        return END_OF_MESSAGE + _TO_FINAL if at == "open" else _closed(form)
    wrapped = form.answer[0] if form.answer and _wraps(form.answer, found) else ""
    if at == "open":
        return f"\n{form.closes}\n\n{wrapped}"
    return _closed(form) + wrapped


def _closed(form: Form) -> str:
    if form == CHANNELS:
        return form.opens + form.closes + _TO_FINAL
    return f"{form.opens}\n\n{form.closes}\n\n"


def _wraps(tags: tuple[str, str], found: Sources) -> bool:
    return all(tag in found.template or tag in found.system or found.is_token(tag) for tag in tags)


def tags_of_turn(rendered: str, begins: str, thought: str, answer: str) -> tuple[str, str] | None:
    """Tags around the thought in a rendered past turn, where the template writes both; `begins` is how answers begin.

    `rendered`: the text behind the question.
    """
    at, behind = rendered.find(thought), rendered.find(answer)
    if at < 0 or behind < at:
        return None
    common = next((i for i, (a, b) in enumerate(zip(rendered[:at], begins)) if a != b), min(at, len(begins)))
    opens, closes = rendered[common:at].strip(), rendered[at + len(thought) : behind].strip()
    return (opens, closes) if opens and closes else None


def may_think(folder: Path, template: str = "") -> bool:
    """Whether a model's small files, or the template that it is asked with, speak of thoughts at all.

    No tokenizer is opened: most models' do not.
    """
    sources = [*sorted(folder.glob("*.jinja")), *sorted(folder.glob("additional_chat_templates/*.jinja"))]
    texts = [
        template,
        *(_read(path) for path in (*sources, folder / "chat_template.json", folder / "tokenizer_config.json")),
    ]
    marks = [mark for form in FORMS for mark in (form.opens, form.closes)]
    if any(mark in text for text in texts for mark in (*marks, *_SWITCHES)):
        return True
    words = _read(folder / "tokenizer.json") if (folder / "tokenizer.json").is_file() else _read(folder / "vocab.json")
    return any(_quoted(mark, words) for mark in (*marks, _CHANNEL))


def _quoted(mark: str, text: str) -> bool:
    return json.dumps(mark, ensure_ascii=False) in text or json.dumps(mark) in text


def _read(path: Path) -> str:
    """A file's text with JSON's escapes of signs undone, so that one search finds a tag in either; empty if absent."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for sign in "<>◁▷":
        text = text.replace(json.dumps(sign)[1:-1], sign).replace(f"\\u{ord(sign):04x}", sign)
    return text


# words that no template holds
_QUESTION, _THOUGHT, _ANSWER = "Qwxq question", "Qwxq thought", "Qwxq answer"


class Render(Protocol):
    """A conversation as a tokenizer's template writes it (`chat.render`)."""

    def __call__(
        self,
        tokenizer: Any,
        text: str,
        system: str | None = None,
        *,
        answer: str | None = None,
        thought: str | None = None,
        generate: bool = True,
        on: bool = False,
    ) -> str: ...


def thinking_of(tokenizer: Any, system: str | None, asked: Asked, render: Render, template: str) -> Thinking:
    """The arm of a tokenizer's model under a system prompt. Raises what `decide` and `render` do."""
    vocabulary = tokenizer.get_vocab()

    def whole(on: bool) -> str:
        return render(tokenizer, _QUESTION, system, on=on)

    def begins(on: bool) -> str:
        """What is written for an answer to begin; all behind the question where the template always writes that."""
        full, before = whole(on), render(tokenizer, _QUESTION, system, generate=False, on=on)
        if full.startswith(before) and full != before:
            return full[len(before) :]
        return full[full.rfind(_QUESTION) + len(_QUESTION) :] if _QUESTION in full else full

    def turn() -> tuple[str, str] | None:
        try:
            full = render(tokenizer, _QUESTION, system, answer=_ANSWER, thought=_THOUGHT, generate=False, on=True)
        except ModelError:
            return None
        behind = full[full.rfind(_QUESTION) + len(_QUESTION) :]
        asked = whole(True)
        return tags_of_turn(behind, asked[asked.rfind(_QUESTION) + len(_QUESTION) :], _THOUGHT, _ANSWER)

    def is_token(text: str) -> bool:
        return text in vocabulary and vocabulary[text] != tokenizer.unk_token_id

    return decide(asked, Sources(template, system or "", begins, whole, turn, is_token))
