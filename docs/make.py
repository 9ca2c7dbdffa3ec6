"""Writes the generated pages of this folder: `python docs/make.py`. `--check` writes nothing and fails if one is stale.

To add a page, write a function that returns its text and name it in `PAGES`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PACKAGE = ROOT / "refusalctl"
sys.path[:0] = [str(ROOT), str(DOCS)]

import api_page
import msgspec
import other_pages
import typer

from refusalctl.cli import session
from refusalctl.cli.app import app
from refusalctl.cli.completion_table import written
from refusalctl.cli.examples import SHOWN
from refusalctl.cli.examples import lines as shown_lines
from refusalctl.records.printed import Printed
from refusalctl.records.record import Record
from refusalctl.records.rows import Row
from refusalctl.setting_words import type_name
from refusalctl.settings import Declared, declared

GENERATED = "<!-- Written by docs/make.py. Do not edit: change the code and run `python docs/make.py`. -->"
BEGIN, END = "<!-- tree: written by docs/make.py -->", "<!-- end of tree -->"
COMMANDS_BEGIN = """\
Every step finds or computes what it needs. A command prints the id of its result on stdout and everything else on
stderr, so that commands chain in a shell: `D=$(refusalctl select --lang be)`. Ctrl-C is safe: the same command goes on
where it stopped. Exit codes: 0 done, 1 known error (one line says what to do), 2 wrong usage, 130 interrupted, 141
nobody reads the output, 143 terminated; `gate` has two more. With `--json` an error is the last line of stderr, as
`printed-error` in
[formats](formats/README.md) says it. `refusalctl --verbose COMMAND`, or `REFUSALCTL_VERBOSE=1`, shows what lies behind
an error; `refusalctl --quiet COMMAND` tells only results, notes and errors, without progress and summaries.

Each command lists the settings that it takes as flags; [settings.md](settings.md) describes them. Most commands share
these options:"""
SETTINGS_BEGIN = """\
A setting can be given in four ways. The first that gives a value wins:

1. a flag of the command, or a keyword of `rc.Study(...)`;
2. the experiment file (`refusalctl run FILE`, `--config FILE`, `Study.from_file(FILE)`), in the section named below;
3. the environment variable, where there is one;
4. the default.

`--explain` shows each setting of a command, its value, and which of the four gave it. In a file, a list is a TOML list
(`positions = [-1, -5]`); on the command line it is written with commas (`--positions -1,-5`)."""
FORMATS_BEGIN = """\
JSON Schemas (2020-12) of payloads and of what `--json` prints, made from the classes in `refusalctl/records/` that
write and read them. A payload's file carries its format's name and version; a line of a JSONL payload is one row. What
is not the name of a payload or a row is a document on stdout: a command that makes something prints `printed-result`,
or a list of them."""
ENVIRONMENT = {
    "`REFUSALCTL_STORE`": "Folder of the artifact store; `artifacts` by default.",
    "`REFUSALCTL_VERBOSE`": "Show what lies behind an error, as `--verbose` does.",
    "`REFUSALCTL_QUIET`": "Tell only results, notes and errors, as `--quiet` does.",
    "`REFUSALCTL_DATA_DIR`": "Folder of fetched prompts and of prompt sets of your own.",
    "`REFUSALCTL_CACHE`": "Folder of the embedded model in converted form, and of model organisms.",
    "`REFUSALCTL_JUDGE_URL`, `OPENAI_BASE_URL`": "Address of an endpoint judge, where `--judge-url` is not given.",
    "`REFUSALCTL_JUDGE_OMIT`": "Parts of a request that an endpoint judge leaves out: temperature, max_tokens, schema.",
    "`REFUSALCTL_JUDGE_KEY`, `OPENAI_API_KEY`": "Key of an endpoint judge. It is never recorded.",
    "`DEEPL_AUTH_KEY`": "Key for `--translator deepl`.",
}
SHARED = {
    "--store": "Folder of the artifact store. Environment: `REFUSALCTL_STORE`. Default: `artifacts`.",
    "--config": "Experiment file (TOML). Its values are used where no flag is given.",
    "--name": "Give the result a name. Other commands accept the name in place of an id.",
    "--dry-run": "Show which steps are done and which are still to compute, and stop.",
    "--probe": "With `--dry-run`: run a few prompts and forecast the time.",
    "--explain": "Show every setting, its value, and where the value comes from, and stop.",
    "--json": "Print one JSON document on stdout.",
}


# --- commands.md --------------------------------------------------------------------------------------------


def commands() -> str:
    """Every command, with the options that are its own."""
    group: Any = typer.main.get_command(app)
    shared = table(("option", "meaning"), [(f"`{flag}`", text) for flag, text in SHARED.items()])
    lines = ["# Commands", "", GENERATED, "", *COMMANDS_BEGIN.splitlines(), "", *shared, ""]
    for path, command in leaves(group):
        lines += [f"## `{path}`", "", *described(command), *usage(path, command), *exemplified(path)]
    return "\n".join(lines).rstrip() + "\n"


def leaves(group: Any, prefix: str = "refusalctl") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def described(command: Any) -> list[str]:
    return [*inspect.cleandoc(command.help or "").splitlines(), ""]


def exemplified(path: str) -> list[str]:
    """Examples, and what `--json` prints."""
    found = SHOWN[path.removeprefix("refusalctl ")]
    schemas = " or ".join(f"[`{name}`](formats/{name}.schema.json)" for name in found.schemas)
    return ["```sh", *shown_lines(found), "```", "", f"`--json` prints {schemas}.", ""]


def usage(path: str, command: Any) -> list[str]:
    """The command's arguments and own options, the settings it takes, and the shared options it has."""
    settings = {each.name: each for each in declared()}
    own, taken, shared = [], [], []
    is_step = any("--explain" in p.opts for p in command.params)
    for each in command.params:
        flag = each.opts[0]
        if is_step and (each.name in settings or "__" in str(each.name)):
            taken.append(f"`{flag}`")
        elif flag in SHARED and not (path.startswith("refusalctl data") and flag == "--name"):
            shared.append(f"`{flag}`")
        elif flag not in ("--help", "-h"):
            own.append((f"`{spelled(each)}`", escaped(each.help or ""), default(each)))
    lines = [*table(("option", "meaning", "default"), own), ""] if own else []
    lines += wrapped("Settings: ", taken) if taken else []
    return lines + (wrapped("Also: ", shared) if shared else [])


def spelled(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return "/".join([*parameter.opts, *parameter.secondary_opts])


def default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or parameter.show_default is False:
        return ""
    return "on" if value is True else f"`{value}`"


# --- settings.md --------------------------------------------------------------------------------------------


def settings() -> str:
    """Every setting, as it is declared in refusalctl/settings.py."""
    lines = ["# Settings", "", GENERATED, "", *SETTINGS_BEGIN.splitlines(), ""]
    for title, members in grouped():
        lines += [f"## {title}", ""]
        rows = [
            (f"`{each.name}`", flags(each), kind(each), shown(each), env(each), escaped(told(each))) for each in members
        ]
        lines += [*table(("setting", "flag", "type", "default", "environment", "meaning"), rows), ""]
    lines += ["## From the environment alone", "", *table(("environment", "meaning"), list(ENVIRONMENT.items()))]
    return "\n".join(lines).rstrip() + "\n"


def grouped() -> Iterator[tuple[str, list[Declared]]]:
    """Settings by the part of the experiment file, and of the help, that they stand in."""
    everything = declared()
    for group, title in (("", "Languages"), *((g, t) for g, t in session.PANELS.items() if g)):
        yield (
            f"{title}: `[experiment]`",
            [each for each in everything if each.section == "experiment" and each.group == group],
        )
    yield "Model and machine: `[model]`", [each for each in everything if each.section == "model"]


def flags(each: Declared) -> str:
    off = [f"`--no-{each.flag.removeprefix('--')}`"] if each.type is bool else []
    return ", ".join([f"`{each.flag}`", *off, *(f"`--{value}`" for value in each.values)])


def kind(each: Declared) -> str:
    least = session._plain(each.type)[1]
    return type_name(each.type) + ("" if least is None else f", at least {least:g}")


def shown(each: Declared) -> str:
    value = each.default
    if each.short is not None:
        return each.short
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in value)}]`"
    return f"`{value}`"


def env(each: Declared) -> str:
    return f"`{each.env}`" if each.env else ""


def told(each: Declared) -> str:
    """The help; the key, where the file names the setting otherwise."""
    key = f" In the file: `{each.key}`." if each.key != each.name else ""
    return each.help + key + "".join(f" `--{value}`: {text}" for value, text in each.values.items())


# --- the tree in code.md ------------------------------------------------------------------------------------


def code() -> str:
    """code.md with its tree written again from the modules' first sentences."""
    text = (DOCS / "code.md").read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{chr(10).join(tree())}\n\n{END}{after}"


def tree() -> Iterator[str]:
    """A table per folder: each module and what it is for."""
    folders = sorted({p.parent for p in PACKAGE.rglob("*.py")}, key=place)
    for folder in folders:
        name = f"{folder.relative_to(ROOT).as_posix()}/"
        yield f"### `{name}`"
        yield ""
        yield purpose(folder / "__init__.py")
        yield ""
        rows = [(f"`{p.name}`", purpose(p)) for p in sorted(folder.glob("*.py")) if p.name != "__init__.py"]
        yield from [*table(("file", "purpose"), rows), ""]


ORDER = ("cli", "report", "steps", "model", "stats", "store", "data", "records", "organisms")


def place(folder: Path) -> tuple[int, str]:
    """Folders from the command line down to the records, in the order in which they import each other."""
    parts = folder.relative_to(PACKAGE).parts
    first = ORDER.index(parts[0]) + 1 if parts and parts[0] in ORDER else 0 if not parts else len(ORDER) + 1
    return first, "/".join(parts)


def purpose(module: Path) -> str:
    """The first paragraph of a module's docstring, in one line."""
    doc = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return escaped(" ".join(doc.split("\n\n")[0].split()))


# --- Markdown -----------------------------------------------------------------------------------------------


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {' | '.join(row)} |".replace("|  |", "| |").replace("|  |", "| |") for row in rows),
    ]


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


def wrapped(head: str, items: list[str]) -> list[str]:
    """A list in one paragraph, at most 118 characters a line."""
    lines, line = [], head
    for i, item in enumerate(items):
        piece = item + ("." if i == len(items) - 1 else ", ")
        if len(line) + len(piece) > 118:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return [*lines, line, ""]


# --- formats/ -----------------------------------------------------------------------------------------------


def schemas() -> dict[str, Callable[[], str]]:
    """A JSON Schema per payload, per kind of row, and per document that `--json` prints."""
    for module in sorted((PACKAGE / "records").glob("*.py")):
        importlib.import_module(f"refusalctl.records.{module.stem}")
    found: dict[str, Callable[[], str]] = {}
    kinds: set[Any] = {*leaf(Record), *leaf(Row), *leaf(Printed)}
    for each in sorted(kinds, key=schema_name):
        if each.__module__.startswith("refusalctl.records."):
            found[f"formats/{schema_name(each)}"] = partial(schema, each)
    return {**found, "formats/README.md": partial(contents, tuple(found))}


def leaf(kind: Any) -> Iterator[Any]:
    for each in kind.__subclasses__():
        yield each
        yield from leaf(each)


def schema_name(kind: Any) -> str:
    """`transfer.schema.json` for the payload `transfer.json`; rows and printed documents by the class's name."""
    name = getattr(kind, "FORMAT", None) or re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()
    return f"{name}.schema.json"


def schema(kind: Any) -> str:
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(kind)}
    if issubclass(kind, Record):  # a file's header, which `formats.write_record` adds
        body = found["$defs"][kind.__name__]
        header = {"format": {"const": f"refusalctl.{kind.FORMAT}"}, "version": {"const": kind.VERSION}}
        body["properties"] = header | body["properties"]
        body["required"] = [*header, *body["required"]]
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def contents(names: Sequence[str]) -> str:
    lines = ["# Formats", "", GENERATED, "", *FORMATS_BEGIN.splitlines(), ""]
    return "\n".join([*lines, *(f"- [`{Path(n).name}`]({Path(n).name})" for n in names), ""])


# --- made elsewhere -----------------------------------------------------------------------------------------


def llms() -> str:
    return other_pages.llms((DOCS / "index.md").read_text(encoding="utf-8"))


def notebooks() -> dict[str, Callable[[], str]]:
    """A notebook beside each example that is kept as text."""
    scripts = sorted((ROOT / "examples").glob("*.py"))
    return {f"../examples/{each.stem}.ipynb": partial(other_pages.notebook, each) for each in scripts}


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "settings.md": settings,
    "code.md": code,
    "api.md": partial(api_page.api, GENERATED),
    "../llms.txt": llms,
    **notebooks(),
    "../refusalctl/cli/completion.json": lambda: written(typer.main.get_command(app)),
    **schemas(),
}


def stale() -> list[str]:
    """Pages whose text is not what the code says now."""
    return [
        name
        for name, page in PAGES.items()
        if not (DOCS / name).is_file() or (DOCS / name).read_text(encoding="utf-8") != page()
    ]


def orphans() -> list[Path]:
    """Schemas of what is gone."""
    return [path for path in sorted((DOCS / "formats").iterdir()) if f"formats/{path.name}" not in PAGES]


def main(arguments: list[str]) -> int:
    old = stale()
    if "--check" in arguments:
        wrong = [*old, *(f"formats/{path.name}" for path in orphans())]
        sys.stderr.write("".join(f"docs/{name} is stale: run `python docs/make.py`\n" for name in wrong))
        return 1 if wrong else 0
    for path in orphans():
        path.unlink()
    for name in old:
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        sys.stdout.write(f"wrote docs/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
