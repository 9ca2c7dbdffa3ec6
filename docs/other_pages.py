"""llms.txt, from the tables of index.md; and notebooks, from examples that are kept as text."""

from __future__ import annotations

import json
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
ROW = re.compile(r"^\| \[([^\]]+)\]\(([^)]+)\) \| ([^|]+) \|", re.MULTILINE)
SUMMARY = """\
> A command line and a Python library that measure whether the refusal direction of a chat model, found in one language,
> acts in another: difference-in-means directions, directional ablation, judged answers, and a verdict per pair of
> languages by a written rule, with its error rates. Interventions live in memory; no weights are changed."""
NOTES = """\
- `refusalctl COMMAND --help` and `--explain` say what a command takes; `--json` prints one document on stdout, by a
  schema of [formats](docs/formats/README.md); errors are one line on stderr that says what to do.
- What was not measured is null with a reason, never a number. Do not quote a verdict without its sentence.
- No command prints prompts or answers. They may be harmful: do not open or quote them unless asked to."""
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def llms(index: str) -> str:
    """The pages of index.md with what each answers, for language models and what they work in."""
    lines = ["# refusalctl", "", *SUMMARY.splitlines(), "", *NOTES.splitlines(), ""]
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        lines += [f"## {section.splitlines()[0].strip()}", ""]
        lines += [
            f"- [{name}]({from_root(link)}): {' '.join(says.split())}" for name, link, says in ROW.findall(section)
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def from_root(link: str) -> str:
    return (DOCS / link).resolve().relative_to(ROOT).as_posix()


def notebook(script: Path) -> str:
    """A Jupyter notebook without outputs: those would hold what only the reader's own machine should show."""
    cells = []
    parts = re.split(r"^# %%(.*)\n", script.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for number, (kind, body) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        is_text = "[markdown]" in kind
        lines = body.strip("\n").split("\n")
        lines = [re.sub(r"^# ?", "", line) for line in lines] if is_text else lines
        source = [*(f"{line}\n" for line in lines[:-1]), lines[-1]]
        cell: dict[str, object] = {"cell_type": "markdown" if is_text else "code", "id": f"cell-{number}"}
        cell |= {"metadata": {}, "source": source} | ({} if is_text else {"execution_count": None, "outputs": []})
        cells.append(cell)
    made = {"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"
