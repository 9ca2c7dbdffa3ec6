"""The one place where a conversation is rendered, and where what was rendered is proved to hold what was asked.

Templates are programs: they may drop a system text, cut or rewrite a prompt, or write it twice, without a word. So a
template is first asked to render words of our own, which shows what it writes before and behind a prompt (`frame`), and
a rendered prompt is accepted only as exactly that, with the prompt whole in its place (`placed`).
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.exceptions import UndefinedError

from refusalctl.errors import ModelError
from refusalctl.json_types import JsonObject

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import Tokenizer

FIXED_DATE = "26 Jul 2024"  # what Llama 3's templates take where they are given no date
_FIXED_NOW = "{%- macro strftime_now(format) -%}" + FIXED_DATE + "{%- endmacro -%}"
# words that no template writes by itself; small letters and digits, so that nothing has to be escaped
PROMPT_WORD, SYSTEM_WORD = "qzprompt7qz", "qzsystem7qz"
OTHER = "give another template with --chat-template FILE"
NO_SYSTEM = f"leave --system out, or {OTHER}"


class ContentForm(NamedTuple):
    """Which contents a template takes as a list of parts, as models that also see images do, and not as a text."""

    system: bool = False
    user: bool = False


_FORMS = (ContentForm(), ContentForm(True, True), ContentForm(False, True), ContentForm(True, False))


class Frame(NamedTuple):
    """What a template writes before and behind a prompt; a system text stands in its place."""

    before: str
    after: str
    system_trimmed: bool = False


def render(
    tokenizer: Tokenizer,
    text: str,
    system: str | None = None,
    *,
    answer: str | None = None,
    thought: str | None = None,
    generate: bool = True,
    on: bool = False,
) -> str:
    """The prompt as the model sees it; with its answer, if given, and the thought before that.

    In non-thinking mode where the template offers one, unless thoughts are asked for (`on`).

    Raises `ModelError` where the template refuses it (Gemma's takes no system prompt) or fails.
    """
    template = template_of(tokenizer)
    form = _form(tokenizer, template, system is not None)
    return _apply(tokenizer, template, _turns(form, text, system, answer, thought), generate, on)


def template_of(tokenizer: Tokenizer) -> str:
    """The source of the template that is used. Raises `ModelError` where there is none, or several and no default."""
    found = tokenizer.chat_template
    if isinstance(found, dict):
        if "default" not in found:
            raise ModelError(
                f"the model has chat templates for several uses and no default: {', '.join(sorted(found))}",
                hint="choose one with --chat-template NAME",
            )
        found = found["default"]
    if not found:
        raise ModelError("the tokenizer has no chat template", hint="give one with --chat-template FILE")
    return str(found)


def _turns(
    form: ContentForm, text: str, system: str | None, answer: str | None = None, thought: str | None = None
) -> list[JsonObject]:
    def content(of: str, parts: bool) -> str | list[dict[str, str]]:
        return [{"type": "text", "text": of}] if parts else of

    turns: list[JsonObject] = [{"role": "user", "content": content(text, form.user)}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": content(system, form.system)})
    if answer is not None:
        # each under the name that its templates read
        thoughts = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), thought) if thought else {}
        turns.append({"role": "assistant", "content": content(answer, form.user), **thoughts})
    return turns


@lru_cache(maxsize=8)
def _form(tokenizer: Tokenizer, template: str, with_system: bool) -> ContentForm:
    """The form of contents in which most of what is asked is rendered; plain texts where it is equal."""
    system = SYSTEM_WORD if with_system else None
    words = [PROMPT_WORD] if system is None else [PROMPT_WORD, SYSTEM_WORD]
    best, most = _FORMS[0], 0
    for form in _FORMS:
        try:
            rendered = _apply(tokenizer, template, _turns(form, PROMPT_WORD, system), True)
        except ModelError:
            continue
        # a template that takes texts alone writes the list itself, brackets and all
        there = sum(word in rendered.lower() and f"'text': '{word}'" not in rendered for word in words)
        if there > most:
            best, most = form, there
        if most == len(words):
            break
    return best


def _apply(tokenizer: Tokenizer, template: str, turns: list[JsonObject], generate: bool, on: bool = False) -> str:
    """Run the template. Only its own errors are caught: nothing else happens here."""
    try:
        rendered: str = tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=generate,
            enable_thinking=on,
            thinking=on,
            # some templates write today's date: a run over midnight would compare two different prompts
            date_string=FIXED_DATE,
            chat_template=f"{_FIXED_NOW}{template}" if "strftime_now" in template else template,
        )
    except TemplateSyntaxError as error:
        raise ModelError(
            f"the chat template is no valid Jinja: {error.message} (line {error.lineno})", hint=OTHER
        ) from error
    except UndefinedError as error:
        raise ModelError(
            f"the chat template asks for what a plain conversation does not have: {error}", hint=OTHER
        ) from error
    except TemplateError as error:
        takes_none = turns[0]["role"] == "system" and _takes(tokenizer, template, turns[1:], generate)
        hint = f"this template takes no system prompt: {NO_SYSTEM}" if takes_none else OTHER
        raise ModelError(f"the chat template refuses this conversation: {error}", hint=hint) from error
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(
            f"the chat template fails on a plain conversation: {type(error).__name__}: {reason}", hint=OTHER
        ) from error
    return rendered


def _takes(tokenizer: Tokenizer, template: str, turns: list[JsonObject], generate: bool) -> bool:
    try:
        _apply(tokenizer, template, turns, generate)
    except ModelError:
        return False
    return True


def frame(tokenizer: Tokenizer, system: str | None, on: bool = False) -> Frame:
    """What stands around every prompt. Raises `ModelError` unless prompt and system text each stand there once, whole.

    A system text without its outer whitespace is whole. An empty one must change what is written.
    """
    if system is None:
        return Frame(*_around(render(tokenizer, PROMPT_WORD, on=on), PROMPT_WORD, "prompt"))
    rendered = render(tokenizer, PROMPT_WORD, system, on=on)
    if rendered == render(tokenizer, PROMPT_WORD, on=on):
        raise ModelError(
            f"the chat template drops the system prompt: nothing changes with it{_size(system)}", hint=NO_SYSTEM
        )
    found = Frame(*_around(rendered, PROMPT_WORD, "prompt"))
    start, end = _around(render(tokenizer, PROMPT_WORD, SYSTEM_WORD, on=on), SYSTEM_WORD, "system prompt")
    place = Frame(start, end)
    trimmed = placed(place, rendered, system, "system prompt") if system.strip() else bool(system)
    return found._replace(system_trimmed=trimmed)


def _size(system: str) -> str:
    return "" if system.strip() else " (it is empty)"


def placed(where: Frame, rendered: str, text: str, what: str = "prompt") -> bool:
    """Whether a text stands there without its outer whitespace (True) or as it is. Raises `ModelError` if neither."""
    for each in _trimmed(text):
        if rendered == f"{where.before}{each}{where.after}":
            return each != text
    hint = NO_SYSTEM if what == "system prompt" else OTHER
    raise ModelError(f"the chat template {_became(where, rendered, text, what)}", hint=hint)


def _trimmed(text: str) -> Iterator[str]:
    yield from dict.fromkeys((text, text.strip(), text.rstrip(), text.lstrip()))


def _around(rendered: str, word: str, what: str) -> tuple[str, str]:
    """What stands before and behind a word that must be there once."""
    n = rendered.count(word)
    if n == 1:
        before, _, after = rendered.partition(word)
        return before, after
    hint = NO_SYSTEM if what == "system prompt" else OTHER
    if n > 1:
        raise ModelError(f"the chat template writes the {what} {n} times", hint=hint)
    changes = "changes upper and lower case of" if word in rendered.lower() else "drops or rewrites"
    raise ModelError(f"the chat template {changes} the {what}", hint=hint)


def _became(where: Frame, rendered: str, text: str, what: str) -> str:
    """What a template made of a text, in words, without the text."""
    inside = rendered.startswith(where.before) and rendered.endswith(where.after)
    if not inside or len(rendered) < len(where.before) + len(where.after):
        return f"writes something else around this {what} than around others"
    found, asked = rendered[len(where.before) : len(rendered) - len(where.after)].strip(), text.strip()
    if not found:
        return f"drops this {what}"
    if html.unescape(found) == html.unescape(asked):
        return f"escapes signs of this {what} as HTML"
    if found.casefold() == asked.casefold():
        return f"changes upper and lower case of this {what}"
    if asked.startswith(found.rstrip(". \u2026")):
        return f"cuts this {what}: {len(found)} of {len(asked)} characters are left"
    if found.count(asked) > 1:
        return f"writes this {what} {found.count(asked)} times"
    return f"rewrites this {what}: {len(asked)} characters became {len(found)}"
