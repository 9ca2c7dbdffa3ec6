"""What `complete` knows without loading anything: every command with its options and what each of them takes.

docs/make.py writes this table to `completion.json`; a test fails until it is fresh.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from refusalctl.cli.export import FORMATS as EXPORTS
from refusalctl.cli.goals import EXECUTORS
from refusalctl.cli.judge import TEXTS
from refusalctl.cli.report import FORMATS
from refusalctl.data.field_sets import catalog
from refusalctl.data.languages import NAMES
from refusalctl.data.sets import PUBLISHED_SET, SAMPLE_SET
from refusalctl.interop.direction import OPERATIONS
from refusalctl.interop.tracking import TRACKERS
from refusalctl.language_codes import ISO_639_1
from refusalctl.model.files import embedded
from refusalctl.model.judges import declarations
from refusalctl.organisms.designs import DESIGNS
from refusalctl.records.rows import KINDS, SPLITS
from refusalctl.records.verdict import VERDICTS
from refusalctl.settings import STYLE_JUDGE, declared
from refusalctl.stats.selection_rule import PRESETS
from refusalctl.store.artifact import KINDS as ARTIFACTS

ORGANISM = "organism:"
SHORTEST = 60  # characters of help beside a value
# what the value of an option is, by its flag
OPTIONS: dict[str, str] = {
    "--store": "folder of the store",
    "--lang": "language",
    "--reference": "language",
    "--to": "language",
    "--direction-lang": "language",
    "--sources": "languages",
    "--targets": "languages",
    "--langs": "languages",
    "--only-langs": "languages",
    "--data": "set",
    "--model": "model",
    "--judge": "judge",
    "--opening-judge": "opening judge",
    "--kind": "kind",
    "--split": "split",
    "--direction": "artifact",
    "--translations": "artifact translations",
    "--human": "artifact labels",
    "--sample": "artifact sample",
    "--rule": "rule",
    "--device": "device",
    "--dtype": "dtype",
    "--attention": "attention",
    "--executor": "executor",
    "--text": "judged text",
    "--intervention": "intervention",
    "--translator": "translator",
}
# what arguments are, by the command (or any command) and their names
ARGUMENTS: dict[tuple[str, str], str] = {
    ("", "completions"): "artifact completions",
    ("", "labels"): "artifact labels",
    ("", "transfer"): "artifact transfer",
    ("", "transfers"): "artifact transfer",
    ("", "ref"): "artifact",
    ("", "refs"): "artifact",
    ("", "kind"): "kind of artifact",
    ("", "run"): "run",
    ("", "designs"): "design",
    ("artifacts name", "name"): "",
    ("artifacts log-to", "tracker"): "tracker",
    ("data fetch", "name"): "published set",
}
SPECIAL: dict[tuple[str, str], str] = {
    ("artifacts export", "--format"): "export format",
    ("artifacts export", "--operation"): "operation",
    ("report", "--format"): "report format",
    ("data add", "--format"): "prompt format",
    ("labels sample", "--format"): "sheet format",
    ("import", "--source"): "language",
}


def table(group: Any) -> dict[str, Any]:
    """Commands by their path, each with its options (help, what a value is; None for a switch) and arguments."""
    found = dict(_commands(group, ""))
    return {"commands": found, "choices": _choices()}


def written(group: Any) -> str:
    """The table as the file holds it."""
    return json.dumps(table(group), ensure_ascii=False, indent=0, sort_keys=True) + "\n"


def _commands(command: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    options: dict[str, list[str | None]] = {}
    arguments = []
    for each in command.params:
        if each.param_type_name == "argument":
            arguments.append(ARGUMENTS.get((path, each.name), ARGUMENTS.get(("", each.name), "")))
            continue
        for flag in (*each.opts, *each.secondary_opts):
            if flag.startswith("--"):
                options[flag] = [_short(each.help), None if each.is_flag else _kind(path, each)]
    options["--help"] = ["Show this message and exit.", None]
    yield path, {"help": _short(command.help), "options": options, "arguments": arguments}
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{path} {name}".strip())


def _kind(path: str, option: Any) -> str:
    flag = option.opts[0]
    literal = next((d for d in declared() if d.flag == flag and get_origin(d.type) is Literal), None)
    return SPECIAL.get((path, flag)) or OPTIONS.get(flag) or (f"setting {literal.name}" if literal else "")


def _short(text: str | None) -> str:
    """The first sentence, in a few words."""
    first = re.split(r"(?<=[.;:])\s", " ".join((text or "").replace("`", "").split()))[0].rstrip(".;:")
    return first if len(first) <= SHORTEST else f"{first[: SHORTEST - 1].rsplit(' ', 1)[0]} ..."


def _choices() -> dict[str, dict[str, str]]:
    """Values that follow from nothing on this machine, by what they are."""
    languages = {**NAMES, **{code: name for code, name in ISO_639_1.items() if code not in NAMES}}
    judges = {each.name: f"{each.size}, {each.licence}" for each in declarations()}
    designs = dict.fromkeys(sorted(DESIGNS), "model organism")
    organisms = {f"{ORGANISM}{name}": "model organism" for name in designs}
    published = {PUBLISHED_SET: "18 languages", **{name: each.title for name, each in catalog().items()}}
    return {
        "language": languages,
        "languages": languages,
        "judge": judges,
        "opening judge": {STYLE_JUDGE: "no download", **judges},
        "model": {**dict.fromkeys(embedded.NAMES, "embedded"), **organisms},
        "set": {SAMPLE_SET: "mild prompts, six languages", **published, **organisms},
        "published set": published,
        "design": designs,
        "kind of artifact": dict.fromkeys(ARTIFACTS, ""),
        "verdict": dict.fromkeys(VERDICTS, ""),
        "rule": dict.fromkeys(PRESETS, ""),
        "export format": dict.fromkeys(EXPORTS, ""),
        "operation": dict.fromkeys(OPERATIONS, ""),
        "tracker": dict.fromkeys(TRACKERS, ""),
        "report format": dict.fromkeys(FORMATS, ""),
        "prompt format": dict.fromkeys(("csv", "tsv", "txt", "json", "jsonl", "parquet"), ""),
        "sheet format": dict.fromkeys(("csv", "jsonl"), ""),
        "executor": dict.fromkeys(EXECUTORS, ""),
        "judged text": dict.fromkeys(TEXTS, ""),
        "translator": dict.fromkeys(("google", "deepl", "nllb", "madlad"), ""),
        "intervention": dict.fromkeys(("none", "ablate", "add", "affine"), ""),
        "kind": dict.fromkeys(KINDS, ""),
        "split": dict.fromkeys(SPLITS, ""),
        "device": dict.fromkeys(("auto", "cpu", "cuda", "mps", "shard"), ""),
        "dtype": dict.fromkeys(("auto", "float32", "bfloat16", "float16"), ""),
        "attention": dict.fromkeys(("auto", "sdpa", "eager", "flash_attention_2"), ""),
        **{
            f"setting {d.name}": dict.fromkeys(get_args(d.type), "")
            for d in declared()
            if get_origin(d.type) is Literal
        },
    }
