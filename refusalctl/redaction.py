"""Secrets stay out of what is kept or shown: tokens, passwords in addresses, and what the environment calls a secret.

Artifacts are shared, logs are pasted into issues. A recipe that would hold a secret is refused, because its digest is
the artifact's name; what is only told (errors, notes, `run.json`) has `[hidden]` in its place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from refusalctl.errors import BadInput
from refusalctl.json_types import Json

HIDDEN = "[hidden]"
_SHAPES = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}"  # Hugging Face
    # OpenAI and its like; `sk-` alone begins ids of Slovak prompts, which are small hexadecimal letters
    r"|\bsk-(?:proj|ant|or|svcacct)-[\w-]{20,}|\bsk-(?=[a-z0-9]*[A-Z])[A-Za-z0-9]{32,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bxox[abprs]-[\w-]{10,}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"  # JSON web tokens
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|(?<=://)[^/\s@'\"]+@"  # user and password of an address
    r"|(?<=[?&])(?i:[\w.-]*(?:token|key|secret|signature|sig|password|credential)[\w.-]*)=[^&\s'\"#]{4,}"
    r"|(?i:authorization\W{1,3}(?:bearer|basic)\s+\S+|\bbearer\s+(?=\S*\d)[\w.~+/=-]{20,})"
)
_NAMES = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|AUTH_?KEY|ACCESS_?KEY|CREDENTIAL", re.IGNORECASE)
_PATHS = re.compile(r"_(?:PATH|FILE|DIR)$", re.IGNORECASE)
_SHORTEST = 12  # characters of a secret; shorter values of the environment are words


def redacted(text: str) -> str:
    """The text with `[hidden]` where a secret stood."""
    return _hidden(text, _values())


def _hidden(text: str, secrets: Sequence[str]) -> str:
    for value in secrets:
        text = text.replace(value, HIDDEN)
    return _SHAPES.sub(HIDDEN, text)


def redacted_value(value: object) -> object:
    """The same for every text in a JSON value, keys excepted."""
    return _all_hidden(value, _values())


def _all_hidden(value: object, secrets: Sequence[str]) -> object:
    if isinstance(value, str):
        return _hidden(value, secrets)
    if isinstance(value, Mapping):
        return {key: _all_hidden(each, secrets) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_all_hidden(each, secrets) for each in value]
    return value


def redacted_run(run: Mapping[str, object]) -> dict[str, object]:
    """The same for what happened while a step ran."""
    return {key: redacted_value(each) for key, each in run.items()}


def refuse_secret(recipe: Mapping[str, Json], about: Mapping[str, Json], step: str) -> None:
    """Raise `BadInput` where what an artifact is asked or called by holds a secret: it would be in its manifest."""
    place = place_of_secret({**recipe, "about": about})
    if place is not None:
        raise BadInput(
            f"{step}: {place} would put a token or a password into the artifact, which others read",
            hint="leave it out; what a server asks for belongs into the environment, such as HF_TOKEN",
        )


def holds_secret(text: str) -> bool:
    return _holds(text, _values())


def _holds(text: str, secrets: Sequence[str]) -> bool:
    return _SHAPES.search(text) is not None or any(value in text for value in secrets)


def place_of_secret(value: Json) -> str | None:
    """Where in a JSON value the first secret is, as `params.source`; None where there is none."""
    secrets = _values()
    return next((path for path, text in _texts(value, "") if _holds(text, secrets)), None)


def _texts(value: Json, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield path or "a key", str(key)
            yield from _texts(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence):
        for each in value:
            yield from _texts(each, path)


def _values() -> list[str]:
    """What the environment calls a secret, the longest first, of which others may be parts; paths to files are none."""
    found = {os.environ.get(name, "") for name in os.environ if _is_a_secret_s(name)}
    secrets = (v for v in found if len(v) >= _SHORTEST and " " not in v and not _is_there(v))
    return sorted(secrets, key=len, reverse=True)


@cache
def _is_a_secret_s(name: str) -> bool:
    return _NAMES.search(name) is not None and _PATHS.search(name) is None


def _is_there(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # no path at all
        return False
