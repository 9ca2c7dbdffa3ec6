"""Which chat template a model's folder has, and which one is used. Without torch or transformers.

The same text is digested for recipes and given to the tokenizer, so that what is recorded is what is rendered.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from refusalctl.disk import given_path
from refusalctl.errors import BadInput, ModelError
from refusalctl.json_types import JsonObject
from refusalctl.untrusted import LARGE, bounded, parse_json

DEFAULT = "default"
_OTHER = "give a template with --chat-template FILE"


class Templates(NamedTuple):
    """The templates of a folder by name; the one that is used where none is named is `default`."""

    found: dict[str, str]

    @property
    def names(self) -> str:
        return ", ".join(sorted(self.found))


def chat_template(folder: Path, spec: str, asked: str | None = None) -> str:
    """The source of the template to use: `asked` names one of the model's templates, or a file.

    Raises `ModelError` where the model has none, or several without a default; `BadInput` where `asked` is neither.
    """
    if asked is not None:
        return _asked(folder, asked)
    there = templates_of(folder)
    if there.found.get(DEFAULT):
        return there.found[DEFAULT]
    if there.found:
        raise ModelError(
            f"{spec!r} has chat templates for several uses and no default: {there.names}",
            hint="choose one with --chat-template NAME",
        )
    raise ModelError(
        f"the tokenizer of {spec!r} has no chat template",
        hint=f"refusal is a property of chat models: give the chat or instruct version, or {_OTHER}",
    )


def _asked(folder: Path, asked: str) -> str:
    """A named template of the model, or the text of a file; of a JSON file its `chat_template`."""
    there = templates_of(folder)
    if asked in there.found:
        return there.found[asked]
    path = given_path(asked, "--chat-template") if asked.strip() else None
    if path is None or not path.is_file():
        known = f"the model has {there.names}" if there.found else "the model has none of its own"
        raise BadInput(
            f"the chat template {asked!r} is neither a file nor a template of the model",
            hint=f"{known}; a file of one's own holds Jinja",
        )
    # the mark that some editors begin a file with is no part of a template
    text = _single(_json(path).get("chat_template")) if path.suffix == ".json" else _text(path, "utf-8-sig")
    if not text.strip():
        raise BadInput(f"the chat template {asked!r} is empty", hint="the file must hold a Jinja template")
    return text


def templates_of(folder: Path) -> Templates:
    """What the folder holds, in the order in which transformers looks: files of their own win over settings.

    `chat_template.json` and `processor_config.json` are where models that also see images keep it.
    """
    found: dict[str, str] = {}
    for name in ("processor_config.json", "chat_template.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found |= _by_name(_json(folder / name).get("chat_template"))
    extra = folder / "additional_chat_templates"
    found |= {file.stem: _text(file) for file in sorted(extra.glob("*.jinja"))} if extra.is_dir() else {}
    own = folder / "chat_template.jinja"
    if own.is_file():
        found[DEFAULT] = _text(own)
    return Templates({name: text for name, text in found.items() if text.strip()})


def _by_name(value: object) -> dict[str, str]:
    """Templates of a setting: one text, a list of names with texts, or an object of them."""
    if isinstance(value, str):
        return {DEFAULT: value}
    if isinstance(value, list):
        pairs = [(each.get("name"), each.get("template")) for each in value if isinstance(each, dict)]
        return {n: t for n, t in pairs if isinstance(n, str) and isinstance(t, str)}
    if isinstance(value, dict):
        return {n: t for n, t in value.items() if isinstance(t, str)}
    return {}


def _single(value: object) -> str:
    found = _by_name(value)
    return found.get(DEFAULT, "") if len(found) != 1 else next(iter(found.values()))


def _json(path: Path) -> JsonObject:
    try:
        value = parse_json(_text(path), nan=True)
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error})", hint="copy or fetch the model's files again") from error
    return value if isinstance(value, dict) else {}


def _text(path: Path, encoding: str = "utf-8") -> str:
    try:
        return bounded(path, LARGE).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8 text ({error.reason})", hint="save it as UTF-8") from error
    except ValueError as error:
        raise ModelError(f"{path} cannot be read: {error}", hint="check the file") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", hint="check the file") from error
