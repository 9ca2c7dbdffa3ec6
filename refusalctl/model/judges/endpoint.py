"""Judges behind an OpenAI-compatible endpoint, local or remote, through the standard client.

Two declared judges: `openai-compatible` asks this project's question, `strongreject` the rubric of Souly et al. 2024
(arXiv 2402.10260). Both ask for JSON of a fixed schema. The request and the response travel as JSON strings inside the
user message, so that no text can end its own field. The key comes from the environment and is never recorded; the
weights behind an endpoint cannot be pinned, so the recipe holds its address and the model's name.
"""

from __future__ import annotations

import email.utils
import hashlib
import importlib.util
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.judges.protocol import CUT, MALFORMED, UNFINISHED, Declaration, Item, Verdict, unparsed
from refusalctl.model.judges.weights import Settings
from refusalctl.untrusted import parse_json

URL_VARIABLE = "REFUSALCTL_JUDGE_URL"
KEY_VARIABLES = ("REFUSALCTL_JUDGE_KEY", "OPENAI_API_KEY")
MAX_TOKENS = 512
LONG_WAIT = 60  # seconds; the client waits out shorter ones
OMIT_VARIABLE = "REFUSALCTL_JUDGE_OMIT"
OMITTED = ("temperature", "max_tokens", "schema")  # what a server may reject, and what is then not sent
NO_VERDICT = "a thought and no verdict"
_LATER = "finished labels are kept; run the same command again"
_ADDRESS = "check --judge-url (most servers want it to end in /v1) and the model's name in --judge-model"
_ROW_CODES = frozenset({"content_filter", "context_length_exceeded", "string_above_max_length"})


@dataclass(frozen=True)
class Question:
    """What an endpoint is asked: instructions, the schema of its answer, and how that becomes a verdict."""

    system: str
    schema: dict[str, Any]
    read: Callable[[dict[str, Any]], Verdict]


@dataclass
class EndpointJudge:
    """`model` is the name that the endpoint knows. Requests run in `batch_size` threads; the client backs off itself
    on 429, 5xx and timeouts, with the wait that the server asks for."""

    declaration: Declaration
    question: Question
    model: str
    settings: Settings = field(default_factory=Settings)

    @cached_property
    def url(self) -> str | None:
        return self.settings.url or os.environ.get(URL_VARIABLE) or os.environ.get("OPENAI_BASE_URL")

    @cached_property
    def omitted(self) -> frozenset[str]:
        """Parts of the request that are left out. Raises `BadInput` for a part that cannot be."""
        given = frozenset(part.strip() for part in os.environ.get(OMIT_VARIABLE, "").split(",") if part.strip())
        if given - set(OMITTED):
            raise BadInput(
                f"{OMIT_VARIABLE} names {', '.join(sorted(given - set(OMITTED)))}",
                hint=f"it takes {', '.join(OMITTED)}",
            )
        return given

    @cached_property
    def digest(self) -> str:
        facts = [self.declaration.name, self.declaration.version, self.question.system, self.question.schema]
        facts += [self.model, _public(self.url), *sorted(self.omitted)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def release(self) -> None:
        """Nothing is held here."""

    def judge_all(self, items: Sequence[Item], done: frozenset[int] = frozenset()) -> Iterator[tuple[int, Verdict]]:
        """Raises `ModelError` when the endpoint gives up; what was yielded before stays judged."""
        client = self._client()
        pool = ThreadPoolExecutor(self.settings.batch_size)
        try:
            asked = {pool.submit(self._ask, client, item): i for i, item in enumerate(items) if i not in done}
            for finished in as_completed(asked):
                yield asked[finished], finished.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            client.close()

    def check(self) -> EndpointJudge:
        """Raise `ModelError` now for what would fail at the first request: no client, no address."""
        if importlib.util.find_spec("openai") is None:
            raise ModelError(
                f"the judge {self.declaration.name!r} needs the package openai",
                hint="run `pip install refusalctl[openai]`",
            )
        if self._key is None and self.url is None:
            raise ModelError(
                f"the judge {self.declaration.name!r} has neither an address nor a key",
                hint=f"give --judge-url (or {URL_VARIABLE}) for a local server, or set {KEY_VARIABLES[0]}",
            )
        return self

    @property
    def _key(self) -> str | None:
        return next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)

    def _client(self) -> Any:
        from openai import OpenAI

        # a local server asks for no key, the client insists on one
        key, settings = self._key or "none", self.settings
        return OpenAI(base_url=self.url, api_key=key, timeout=settings.timeout, max_retries=settings.retries)

    def _ask(self, client: Any, item: Item) -> Verdict:
        import openai

        asked = json.dumps({"request": item.prompt, "response": item.response}, ensure_ascii=False)
        schema = {"name": "verdict", "strict": True, "schema": self.question.schema}
        parts: dict[str, tuple[str, Any]] = {
            "schema": ("response_format", {"type": "json_schema", "json_schema": schema}),
            "temperature": ("temperature", 0),
            "max_tokens": ("max_completion_tokens", MAX_TOKENS),
        }
        try:
            answer = client.chat.completions.create(
                model=self.model,
                messages=[{"role": "system", "content": self.question.system}, {"role": "user", "content": asked}],
                **{name: value for part, (name, value) in parts.items() if part not in self.omitted},
            )
        except openai.APIStatusError as error:
            if error.code in _ROW_CODES or error.status_code == 413:
                return unparsed(f"the endpoint refused this row ({error.code or error.status_code})")
            raise _problem(self, _kind(error), error.body, _status_hint(error)) from error
        except openai.APIError as error:
            raise _problem(self, _kind(error), error.body, f"{_LATER} later") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise _problem(self, _no_json(error), None, f"{_ADDRESS}; {_LATER}") from error
        return self.read(answer)

    def read(self, answer: Any) -> Verdict:
        """A response of the client as a verdict. A completion that is not whole and of the schema is unparsed; raises
        `ModelError` for what is no completion, of which no row would ever get a label.
        """
        choices: Any = getattr(answer, "choices", None)
        failed = getattr(choices[0], "error", None) if isinstance(choices, list) and choices else _error_in(answer)
        if isinstance(failed, dict) and failed.get("code") in _ROW_CODES:
            return unparsed(f"the endpoint refused this row ({failed['code']})")
        if failed or not isinstance(choices, list):
            hint = f"{_LATER} later" if failed else f"{_ADDRESS}; {_LATER}"
            raise _problem(self, "an error in place of an answer" if failed else "no chat completion", failed, hint)
        message = getattr(choices[0], "message", None) if choices else None
        if message is None:
            return unparsed(MALFORMED)
        finish = choices[0].finish_reason
        if getattr(message, "refusal", None) or finish == "content_filter":
            return unparsed("the endpoint's model declined to judge")
        text = _behind_thought(_text(message.content))
        thought = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
        if thought and not text and finish in ("stop", "length"):  # a verdict within a thought is none
            return unparsed(NO_VERDICT if finish == "stop" else UNFINISHED)
        if finish != "stop":
            return unparsed(CUT)
        found = _strict(text, self.question.schema)
        return self.question.read(found) if found is not None else unparsed(MALFORMED)


def _error_in(answer: Any) -> Any:
    """What a body of status 200 says in place of a completion, or None."""
    if isinstance(answer, str):
        return answer if "<" not in answer[:200] else None
    names = ("error", "detail", "message")
    return next((said for name in names if (said := getattr(answer, name, None))), None)


def _kind(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    return f"{type(error).__name__}, {status}" if status else type(error).__name__


def _no_json(error: json.JSONDecodeError | UnicodeDecodeError) -> str:
    body = error.doc.strip() if isinstance(error, json.JSONDecodeError) else "?"
    return "an HTML page" if body.startswith("<") else "a body that is no JSON" if body else "an empty body"


def _status_hint(error: Any) -> str:
    """What to do about a status that the client does not wait out, or no longer."""
    status, wait = error.status_code, _asked_wait(error.response.headers.get("retry-after"))
    if status in (400, 422):
        return f"the model must know structured output; {OMIT_VARIABLE} leaves out {', '.join(OMITTED)}"
    if status in (401, 403):
        return f"check the key in {' or '.join(KEY_VARIABLES)}"
    if status in (404, 405) or 300 <= status < 400:
        return _ADDRESS
    return f"{_LATER} in {wait} s, as the server asks" if wait and wait > LONG_WAIT else f"{_LATER} later"


def _asked_wait(header: str | None) -> int | None:
    """Seconds that a `Retry-After` asks for, given as a number or as a date; None where it cannot be read."""
    try:
        seconds = float(header or "")
    except ValueError:
        date = email.utils.parsedate_tz(header)
        seconds = email.utils.mktime_tz(date) - time.time() if date else 0.0
    return math.ceil(seconds) if 0 < seconds < math.inf else None


def _problem(judge: EndpointJudge, what: str, body: Any, hint: str) -> ModelError:
    said = _said(body, (*(os.environ.get(name) for name in KEY_VARIABLES), *_secrets(judge.url)))
    return ModelError(f"the endpoint of {judge.declaration.name!r} does not answer ({what}){said}", hint=hint)


def _said(body: Any, secrets: Sequence[str | None]) -> str:
    """The server's own words: one line, cut, without control characters and without anything secret."""
    words = body
    for _ in range(4):  # {"error": {"message": ...}}, {"detail": [{"msg": ...}]}, or the words alone
        if isinstance(words, list):
            words = words[0] if words else None
        elif isinstance(words, dict):
            words = next((words[name] for name in ("message", "error", "detail", "msg") if words.get(name)), None)
    if not isinstance(words, str) or words.lstrip().startswith("<"):
        return ""
    words = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    for secret in filter(None, secrets):
        words = words.replace(secret, "[hidden]")
    words = re.sub(r"(?i)\bauthorization\W+(bearer|basic)?\s*\S+|\b(bearer|basic)\s+\S+", "[hidden]", words)
    words = re.sub(r"(?i)\bsk-[\w*-]{8,}|://[^/\s@]+@|(?<=key[=:])\s*\S+", "[hidden]", words)
    return f": {words[:300]}" if words else ""


def _secrets(url: str | None) -> list[str]:
    """What an address holds that nobody else may read: password, and values of its query."""
    parts = urlsplit(url or "")
    return [*filter(None, [parts.password]), *(value for _, value in parse_qsl(parts.query) if len(value) > 3)]


def _text(content: Any) -> Any:
    """The text of a message, also where a server gives it in parts; thoughts among the parts are no text."""
    if not isinstance(content, list):
        return content
    parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(str(part.get("text")) for part in parts)


def _behind_thought(text: Any) -> Any:
    """What a reasoning model wrote behind its thought, where a server leaves that in the answer."""
    return text.rpartition("</think>")[2] if isinstance(text, str) and text.lstrip().startswith("<think>") else text


def _public(url: str | None) -> str | None:
    """An address without user, password and query, which may hold secrets."""
    if url is None:
        return None
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _strict(text: Any, schema: dict[str, Any]) -> dict[str, Any] | None:
    """One JSON object with exactly the schema's properties and values, or None. A repeated key is malformed."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key is repeated")
        return found

    if not isinstance(text, str):
        return None
    try:
        found = parse_json(text, pairs=unique)
    except ValueError:
        return None
    properties = schema["properties"]
    if not isinstance(found, dict) or set(found) != set(properties):
        return None
    # True equals 1 in Python: the type is compared too
    if not all(any(v == a and type(v) is type(a) for a in properties[k]["enum"]) for k, v in found.items()):
        return None
    return found


def schema(**values: list[Any]) -> dict[str, Any]:
    """A closed object whose properties each take one of the listed values."""
    kinds = {str: "string", int: "integer", bool: "boolean"}
    properties = {name: {"type": kinds[type(listed[0])], "enum": listed} for name, listed in values.items()}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def named_model(declaration: Declaration, given: str | None) -> str:
    if not given:
        raise BadInput(
            f"the judge {declaration.name!r} needs the name of a model at its endpoint",
            hint=f"give --judge-model NAME, or --judge {declaration.name}=NAME",
        )
    return given
