"""Settings from flags, experiment files and the environment, with where each value came from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from refusalctl.errors import BadInput
from refusalctl.setting_words import nearest, type_name
from refusalctl.settings import Declared, Machine, Settings, build, check_names, declared


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
            values[name], origins[name] = written[name], str(file)
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
    """Values of an experiment file by setting. Raises `BadInput` naming an unknown key or a malformed line."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path} is not there", hint="see examples/ for experiment files") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not TOML ({error})") from error
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror}", hint="give a file, such as one of examples/"
        ) from error
    keys = {section: {d.key: d.name for d in declared() if d.section == section} for section in ("experiment", "model")}
    found: dict[str, object] = {}
    for section, values in raw.items():
        if section not in keys or not isinstance(values, dict):
            raise BadInput(f"{path}: unknown section [{section}]", hint="expected [experiment] and [model]")
        for key, value in values.items():
            if key not in keys[section]:
                raise BadInput(f"{path}: unknown key {key!r} in [{section}]", hint=nearest(key, keys[section]))
            found[keys[section][key]] = value
    return found
