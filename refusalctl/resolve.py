"""Settings from flags, experiment files and the environment, with where each value came from."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from refusalctl.errors import BadInput
from refusalctl.setting_words import nearest, type_name
from refusalctl.settings import Declared, Machine, Settings, build, check_names, declared
from refusalctl.untrusted import DOCUMENT, Refused, bounded, whole

STDIN = Path("-")
GATE = "gate"  # a section of experiment files that is no setting: what is expected of the result


class Resolved(NamedTuple):
    """What is asked, of which machine, and where each value came from, by name."""

    settings: Settings
    machine: Machine
    origins: dict[str, str]


def resolve(
    flags: Mapping[str, object], file: Path | None = None, environ: Mapping[str, str] | None = None
) -> Resolved:
    """Records from values by name; whatever is None or absent counts as not given.

    A flag wins over the file, the file over the environment, the environment over the default. Raises `BadInput` for
    an unknown name, a file that cannot be read, or a value that does not fit, saying where it came from.
    """
    env = os.environ if environ is None else environ
    known = {each.name: each for each in declared()}
    check_names(flags)
    written = read_file(file) if file is not None else {}
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for name, each in known.items():
        if flags.get(name) is not None:
            values[name], origins[name] = flags[name], "flag"
        elif name in written:
            values[name], origins[name] = written[name], "stdin" if file == STDIN else str(file)
        elif each.env is not None and env.get(each.env):
            values[name], origins[name] = _from_text(env[each.env], each), each.env
        else:
            origins[name] = "default"
    return Resolved(*build(values, origins), origins)


def _from_text(text: str, each: Declared) -> object:
    """A value from the environment, which knows only text."""
    try:
        return msgspec.convert(text, each.type, strict=False)
    except msgspec.ValidationError as error:
        raise BadInput(f"{each.env} is {text!r}, expected {type_name(each.type)}") from error


def read_file(path: Path) -> dict[str, object]:
    """Values of an experiment file by setting, `-` being standard input. Raises `BadInput` naming what cannot be read:
    a malformed line, an unknown section or key with the nearest, a key outside its section, a value given twice."""
    name = "stdin" if path == STDIN else str(path)
    raw = _parsed(name, _text(path, name))
    keys = {section: {d.key: d.name for d in declared() if d.section == section} for section in ("experiment", "model")}
    found: dict[str, object] = {}
    _expected(name, raw.pop(GATE, {}))  # `gate` reads it; what is wrong with it is told by every command
    for section, values in raw.items():
        if section not in keys or not isinstance(values, dict):
            raise _stray(name, section, values, keys)
        for key, value in values.items():
            setting = keys[section].get(key) or _alias(key, section)
            if setting is None:
                raise BadInput(f"{name}: unknown key {key!r} in [{section}]", hint=_meant(key, section, keys))
            if setting in found:
                raise BadInput(f"{name}: {setting!r} is set twice in [{section}] ({key!r} is another name of it)")
            found[setting] = value
    return found


def expectations(path: Path) -> tuple[str, ...]:
    """What the [gate] section of an experiment file expects of its transfer; none without that section. Raises
    `BadInput` as `read_file` does."""
    name = "stdin" if path == STDIN else str(path)
    return _expected(name, _parsed(name, _text(path, name)).get(GATE, {}))


def _expected(name: str, section: object) -> tuple[str, ...]:
    if not isinstance(section, dict):
        raise BadInput(f"{name}: {GATE!r} is no section", hint=f"write [{GATE}] on its own line")
    for key in section:
        if key != "expect":
            raise BadInput(f"{name}: unknown key {key!r} in [{GATE}]", hint=nearest(key, {"expect": None}))
    given = section.get("expect", ())
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise BadInput(
            f"{name}: expect in [{GATE}] is {given!r:.80}, expected a list of texts such as 'en>de=transfers'"
        )
    return tuple(given)


def _text(path: Path, name: str) -> str:
    try:
        content = whole(sys.stdin.buffer, DOCUMENT) if path == STDIN else bounded(path, DOCUMENT)
    except FileNotFoundError as error:
        raise BadInput(f"{path} is not there", hint="see examples/ for experiment files") from error
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror}", hint="give a file, such as one of examples/"
        ) from error
    except Refused as error:
        raise BadInput(f"{name} is no experiment file: {error}", hint="see examples/ for experiment files") from error
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadInput(
            f"{name}: not UTF-8 (line {line}, byte {error.start})", hint="TOML is UTF-8: save the file as that"
        ) from error


def _parsed(name: str, text: str) -> dict[str, object]:
    if not text.strip():
        raise BadInput(f"{name} is empty", hint="expected [experiment] and [model]; see examples/")
    if "\0" in text:
        raise BadInput(f"{name}: zero bytes, as in UTF-16", hint="TOML is UTF-8: save the file as that")
    try:
        return tomllib.loads(text.replace("\r\n", "\n").replace("\r", "\n"))
    except tomllib.TOMLDecodeError as error:
        what = str(error)
        hint = "this is JSON or YAML" if text.lstrip().startswith(("{", "- ", "---")) else "see examples/"
        raise BadInput(f"{name}: not TOML ({what[:1].lower()}{what[1:]})", hint=hint) from error
    except (RecursionError, ValueError) as error:  # lists in lists without end; a number of thousands of digits
        raise BadInput(f"{name}: not TOML that can be read ({str(error)[:80]})") from error


def _alias(key: str, section: str) -> str | None:
    """The setting of another spelling: `max-kl` as the flag has it, `model` as the record calls its name."""
    plain = key.replace("-", "_")
    return next((d.name for d in declared() if d.section == section and plain in (d.key, d.name)), None)


def _stray(name: str, section: str, values: object, keys: Mapping[str, Mapping[str, str]]) -> BadInput:
    """What is wrong with a key or a section at the top of a file."""
    home = next((each for each in keys if _alias(section, each)), None)
    if home is not None and not isinstance(values, dict):
        return BadInput(f"{name}: {section!r} stands before any section", hint=f"put it below [{home}]")
    if isinstance(values, dict):
        return BadInput(
            f"{name}: unknown section [{section}]",
            hint=f"{_near(section, (*keys, GATE))}expected [experiment], [model] and [gate]",
        )
    if section in keys:
        return BadInput(f"{name}: {section!r} is no section", hint=f"write [{section}] on its own line")
    every = {key: each for each in keys for key in keys[each]}
    return BadInput(
        f"{name}: unknown key {section!r} before any section",
        hint=f"{_near(section, every)}keys stand below [experiment] or [model]",
    )


def _near(name: str, known: Iterable[str]) -> str:
    said = nearest(name, dict.fromkeys(known))
    return f"{said} " if said.startswith("did") else ""


def _meant(key: str, section: str, keys: Mapping[str, Mapping[str, str]]) -> str:
    """Where an unknown key belongs, or the nearest that is known."""
    home = next((each for each in keys if each != section and key.replace("-", "_") in keys[each]), None)
    return f"it belongs to [{home}]" if home else nearest(key, keys[section])
