"""`refusalctl init`."""

from __future__ import annotations

import json as quoting
from pathlib import Path
from typing import Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import JsonOption, languages
from refusalctl.disk import write_whole
from refusalctl.errors import BadInput
from refusalctl.file_errors import explained
from refusalctl.records.printed import PrintedExperiment
from refusalctl.resolve import resolve
from refusalctl.settings import Declared, declared

DEFAULT_FILE = Path("experiment.toml")
SHOWN = ("n_train", "n_val", "n_test", "layers", "rule", "max_new_tokens", "judge", "margin", "induce", "controls")
MACHINE = ("device", "dtype", "batch_size", "system")
EXAMPLES = {
    "n_train": "128", "n_val": "32", "n_test": "100", "layers": "[8, 12, 16]", "device": '"cuda"', "system": '"..."',
}  # fmt: skip


def init(
    file: Annotated[
        Path, typer.Argument(help="Experiment file to write.", show_default=str(DEFAULT_FILE))
    ] = DEFAULT_FILE,
    model: Annotated[str | None, typer.Option("--model", help="Hub id, local folder, or an embedded name.")] = None,
    sources: Annotated[str | None, typer.Option("--sources", help="Languages to take a direction from: en,be.")] = None,
    targets: Annotated[str | None, typer.Option("--targets", help="Languages to apply it in: en,be,ba.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Prompt set: sample, polyrefuse, or your own.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take the default for what is not given; ask nothing.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite the file if it is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a commented experiment file after four questions: model, prompts, languages from, languages to.

    Each question has a flag. Where nobody can be asked (no terminal, or --json) those without one take their default
    with --yes, and are an error without it.
    """
    if file.exists() and not replace:
        raise BadInput(f"{file} is there already", hint="pass --replace, or name another file")
    defaults = {each.name: each for each in declared()}
    answers = _answers(
        {"model": model, "data": data, "sources": sources, "targets": targets},
        {
            "model": (str(defaults["model"].default), "Model (hub id, local folder, or an embedded name)"),
            "data": (str(defaults["data"].default), "Prompt set (sample, polyrefuse, or your own)"),
            "sources": ("en", "Languages to take a direction from (such as en,be)"),
            "targets": ("en,de,be", "Languages to apply it in (such as en,be,ba)"),
        },
        ask=not yes and not json and out.can_ask(),
        take=yes,
    )
    text = written(answers, file.name)
    with explained("write to", file, hint="choose another file", kind=BadInput):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode())
    resolve({}, file, {})  # what was written is what will be read
    for told in _not_yet(answers):
        out.warn(told)
    if json:
        out.as_json(PrintedExperiment(str(file), answers["model"], answers["data"], *map(tuple, _langs(answers))))
        return
    out.data(str(file))
    out.info(f"next: `refusalctl run {file} --dry-run`, then without --dry-run")


def _langs(answers: dict[str, str]) -> tuple[list[str], list[str]]:
    return languages(answers["sources"]), languages(answers["targets"])


def _answers(
    given: dict[str, str | None], questions: dict[str, tuple[str, str]], *, ask: bool, take: bool
) -> dict[str, str]:
    """What flags say, else the answer of a person, else the default where that may be taken."""
    lacking = [f"--{name}" for name, value in given.items() if value is None]
    if lacking and not ask and not take:
        raise typer.BadParameter(f"nobody can be asked: give {', '.join(lacking)}, or --yes for the defaults")
    found = {}
    for name, (default, question) in questions.items():
        value = given[name]
        if value is None:
            value = out.ask(question, default) if ask else default
        found[name] = ",".join(languages(value)) if name in ("sources", "targets") else value.strip()
        if not found[name]:
            raise BadInput(f"--{name} is empty", hint=f"give a value, such as {default}")
    return found


def _not_yet(answers: dict[str, str]) -> list[str]:
    """What stands between this file and a run: told, and no error, because it may come later."""
    from refusalctl.data import sets
    from refusalctl.errors import DataError

    try:
        sets.check_has(answers["data"], [each for part in _langs(answers) for each in part])
    except (BadInput, DataError) as lacking:
        return [str(lacking)]
    return []


def written(answers: dict[str, str], name: str) -> str:
    """The file: four answers, and every setting that people change with its default, commented out."""
    known = {each.name: each for each in declared()}
    sources, targets = _langs(answers)
    lines = [
        "# What a run asks. Everything that is commented out has the value that is shown; all settings:",
        "# `refusalctl run --help`, and `refusalctl run FILE --explain` shows where each value comes from.",
        f"#   refusalctl run {name} --dry-run --probe   # the plan, and how long it takes",
        f"#   refusalctl run {name}",
        "",
        "[experiment]",
        f"data = {_toml(answers['data'])}  # {_told(known['data'])}",
        f"sources = {_toml(sources)}  # {_told(known['sources'])}",
        f"targets = {_toml(targets)}  # {_told(known['targets'])}",
        *(_commented(known[each]) for each in SHOWN),
        "",
        "[model]",
        f"name = {_toml(answers['model'])}  # {_told(known['model'])}",
        *(_commented(known[each]) for each in MACHINE),
        "",
        "# [gate]  # what `refusalctl gate TRANSFER --config FILE` expects of the verdicts",
        f'# expect = ["{sources[0]}>*=transfers"]',
    ]
    return "\n".join(lines) + "\n"


def _commented(each: Declared) -> str:
    shown = _toml(each.default) if each.default not in (None, ()) else EXAMPLES[each.name]
    default = "" if each.default not in (None, ()) else f" By default: {each.short or 'none'}."
    return f"# {each.key} = {shown}  # {_told(each)}{default}"


def _told(each: Declared) -> str:
    return " ".join(each.help.split())


def _toml(value: object) -> str:
    """A value as TOML: JSON's texts, lists, numbers and truth values are written alike."""
    return quoting.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
