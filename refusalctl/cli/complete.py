"""What a shell shows when Tab is pressed: commands, options, artifacts, names, languages, models, judges, sets.

A key press waits for this, so nothing is loaded but `completion.json` beside it, which docs/make.py writes from the
command line itself, and names of files in the store. What is offered is plain: shells evaluate it, and names of files
in a store of somebody else could be anything.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "_REFUSALCTL_COMPLETE"  # as Typer's scripts call it, which `--install-completion` writes
TABLE = Path(__file__).with_name("completion.json")
SHOWN = 500  # values at most; nobody reads more
LARGEST = 8_000_000  # bytes of the listing's memory that are read for what artifacts are about
_PLAIN = re.compile(r"[\w.+:@%,=/-]+")
_ODD = re.compile(r"[^\w .,;:+>%=/()-]")

Choices = Mapping[str, str]  # value to a few words about it


def answer(environ: Mapping[str, str]) -> tuple[str, int] | None:
    """What to print for the shell, and the exit code; None where this is no request for completions."""
    action, _, shell = environ.get(VARIABLE, "").partition("_")
    if action != "complete" or shell not in ("bash", "zsh", "fish", "powershell", "pwsh"):
        return None
    words, last = _asked(shell, environ)
    found = [
        (value, _ODD.sub(" ", told)) for value, told in suggestions(words, last, environ) if _PLAIN.fullmatch(value)
    ]
    if shell == "bash":  # which replaces what stands behind the last of its word breaks, and has no descriptions
        known = len(last) - len(re.split("[:=]", last)[-1])
        return "\n".join(value[known:] for value, _ in found), 0
    if shell == "zsh":
        listed = "\n".join(f'"{_zsh(value)}":"{_zsh(told)}"' if told else f'"{_zsh(value)}"' for value, told in found)
        return (f"_arguments '*: :(({listed}))'" if found else "_files"), 0
    if shell == "fish":
        if environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
            return "", 0 if found else 1
        return "\n".join(f"{value}\t{told}" if told else value for value, told in found), 0
    return "\n".join(f"{value}:::{told or ' '}" for value, told in found), 0


def _zsh(text: str) -> str:
    return text.replace(":", r"\\:")  # a colon begins the description; quotes and what a shell expands are gone


def _asked(shell: str, environ: Mapping[str, str]) -> tuple[list[str], str]:
    """The words before the one that is being written, without the program's name, and that word so far."""
    if shell == "bash":
        words, at = _split(environ.get("COMP_WORDS", "")), int(environ.get("COMP_CWORD", "0"))
        before, last = words[1:at], words[at] if at < len(words) else ""
        return _whole(before, last)
    line = environ.get("_TYPER_COMPLETE_ARGS", "")
    words = _split(line)[1:]
    if shell in ("powershell", "pwsh"):
        last = environ.get("_TYPER_COMPLETE_WORD_TO_COMPLETE", "")
        return (words[:-1] if last else words), last
    return (words, "") if not words or line.endswith(" ") else (words[:-1], words[-1])


def _whole(words: list[str], last: str) -> tuple[list[str], str]:
    """Words as they were written: bash takes `--judge=a` and `organism:a` apart."""
    found: list[str] = []
    glue = False
    for word in (*words, last):
        joint = word in (":", "=")
        if found and (joint or glue):
            found[-1] += word
        else:
            found.append(word)
        glue = joint
    return found[:-1], found[-1]


def _split(line: str) -> list[str]:
    """Words of a line that may end inside quotes."""
    for end in ("", '"', "'"):
        try:
            return shlex.split(line + end)
        except ValueError:
            continue
    return line.split()


def suggestions(words: list[str], last: str, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Values that could stand where `last` is being written, each with a few words about it."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    commands: dict[str, Any] = table["commands"]
    path, options, positions, awaited, store = "", commands[""]["options"], 0, None, ""
    for word in words:
        deeper = f"{path} {word}".strip()
        if awaited is not None:
            store, awaited = (word if awaited == "folder of the store" else store), None
        elif word.startswith("-") and word != "-":
            flag, given, value = word.partition("=")
            kind = options.get(flag, ["", None])[1]
            awaited = kind if not given else None
            store = value if given and kind == "folder of the store" else store
        elif deeper in commands and not positions:
            path, options = deeper, commands[deeper]["options"]
        else:
            positions += 1
    root = Path(store or environ.get("REFUSALCTL_STORE") or "artifacts")
    here: dict[str, Any] = commands[path]
    if awaited is not None:
        return _fitting(_values(awaited, table, root, environ), last, lists=awaited == "languages")
    flag, given, value = last.partition("=")
    if given and flag.startswith("--") and flag in options:
        kind = options[flag][1] or ""
        found = _fitting(_values(kind, table, root, environ), value, lists=kind == "languages")
        return [(f"{flag}={each}", told) for each, told in found]
    if last.startswith("-"):
        return _fitting({name: told for name, (told, _) in options.items()}, last)
    below = {name: about["help"] for name, about in commands.items() if name and name.rpartition(" ")[0] == path}
    if below:
        return _fitting({name.rpartition(" ")[2]: told for name, told in below.items()}, last)
    arguments = here["arguments"]
    if not arguments:
        return []
    kind = arguments[min(positions, len(arguments) - 1)]
    return _fitting(_values(kind, table, root, environ), last) if kind else []


def _fitting(values: Choices, last: str, *, lists: bool = False) -> list[tuple[str, str]]:
    """Those that begin as `last` does; of a list with commas, its last part is completed."""
    before, comma, part = last.rpartition(",") if lists else ("", "", last)
    taken = set(before.split(",")) if comma else set()
    found = [(f"{before}{comma}{value}", told) for value, told in values.items() if value.startswith(part)]
    return [each for each in found if each[0].rpartition(",")[2] not in taken][:SHOWN]


def _values(kind: str, table: Mapping[str, Any], root: Path, environ: Mapping[str, str]) -> Choices:
    if kind == "artifact" or kind.startswith("artifact "):
        return dict(_artifacts(root, kind.partition(" ")[2]))
    if kind == "run":
        return {
            name.removesuffix(".jsonl"): "" for name in reversed(_names(root / "events")) if name.endswith(".jsonl")
        }
    chosen: dict[str, str] = dict(table["choices"].get(kind, {}))
    if kind == "set":
        chosen |= {name: "your own" for name in _names(_data_home(environ) / "own") if not name.startswith(".")}
    if kind == "model":
        chosen |= dict.fromkeys(_hub_models(environ), "in the hub's cache")
    return chosen


def _artifacts(root: Path, only: str) -> Iterator[tuple[str, str]]:
    """Names, and the first twelve characters of ids, of one kind or of all, newest first where that is known."""
    about = _about(root)
    for name in _names(root / "names"):
        if name.startswith("."):
            continue
        try:
            target = (root / "names" / name).read_bytes()[:200].decode().strip()
        except (OSError, ValueError):
            continue
        if not only or target.startswith(f"{only}/"):
            yield name, about.get(target, target[:24])
    for kind in (only,) if only else _names(root):
        found = [f"{kind}/{name}" for name in _names(root / kind) if re.fullmatch(r"[0-9a-f]{64}", name)]
        for key in sorted(found, key=lambda key: -list(about).index(key) if key in about and len(about) < SHOWN else 0):
            yield key.rpartition("/")[2][:12], about.get(key, kind)


def _about(root: Path) -> dict[str, str]:
    """What `artifacts ls` remembers of each artifact, in a few words, oldest first; empty where that is nothing."""
    file = root / "cache" / "listing.json"
    try:
        if file.stat().st_size > LARGEST:
            return {}
        lines = sorted(json.loads(file.read_bytes())["lines"].items(), key=lambda line: line[1][4])
        return {key: _words(key, line[3]) for key, line in lines}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _words(key: str, about: Mapping[str, Any]) -> str:
    parts = ("lang", "kind", "split", "intervention", "direction_lang", "sources", "targets", "judge", "model")
    return " ".join([key.partition("/")[0], *(str(about[part]) for part in parts if about.get(part))])


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return []


def _data_home(environ: Mapping[str, str]) -> Path:
    """Where prompt sets of one's own are: as `data.sample.user_home` finds it, without loading it."""
    if given := environ.get("REFUSALCTL_DATA_DIR"):
        return Path(given).expanduser()
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout / "PolyRefuse"
    from platformdirs import user_data_path

    return user_data_path("refusalctl") / "PolyRefuse"


def _hub_models(environ: Mapping[str, str]) -> Iterable[str]:
    home = environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    cache = Path(environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    prefix = "models--"
    return (name.removeprefix(prefix).replace("--", "/") for name in _names(cache) if name.startswith(prefix))
