"""Model families in the form in which they are asked: positions, system text, thoughts, and measured deviations.

`python -m benchmarks.compatibility` prints the two tables of docs/compatibility.md, `--write` puts them there; tiny
random models with each family's form of a chat template, about a minute on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks import command
from refusalctl.model.chat import Chat, open_chat
from refusalctl.model.reasoning import Asked
from refusalctl.model.system_arms import EMPTY, NONE, system_text
from tests import chat_forms, exactness
from tests.chat_forms import FORMS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "compatibility.md"
PLACES = {
    "turn": "a turn of its own",
    "user turn": "in the user's turn",
    "front": "before all turns",
    "refused": "refused, with what to do",
}


def chat(name: str, thinking: Asked = "auto") -> Chat:
    return open_chat(chat_forms.tokenizer(name), None, None, thinking)


def forms() -> Iterator[str]:
    """How each family is asked, as the package finds it out. No model is needed."""
    heads = ("form", "who is asked so", "end-of-instruction tokens", "system text", "without one")
    yield f"| {' | '.join(heads)} | thoughts: auto / off / on |"
    yield "|---|---|---|---|---|---|"
    for name, form in FORMS.items():
        opened = chat(name)
        arms = " / ".join(f"`{chat(name, thinking=arm).thinking.label}`" for arm in ("auto", "off", "on"))
        tokens = f"{len(opened.suffix)}: {_code(''.join(opened.suffix_tokens()))}"
        yield f"| {name} | {form.models} | {tokens} | {PLACES[form.system]} | {_without(name)} | {arms} |"


def _without(name: str) -> str:
    """What stands where no system text is given, and what the arm `none` does about it."""
    if system_text(chat_forms.tokenizer(name), NONE) == EMPTY:
        return "the family's own text; an empty turn removes it"
    return "the family's own lines, which stay" if FORMS[name].own_text else "nothing"


def _code(text: str) -> str:
    shown = text.replace("\n", "⏎").replace("|", "\\|")
    return f"`{shown}`"


def deviations() -> Iterator[str]:
    """What exactness costs on each form's random model."""
    yield "| form | architecture | (1) recorded | (2) left over | (3) edited weights | (4) batch | (5) other answers |"
    yield "|---|---|---|---|---|---|---|"
    for name, form in FORMS.items():
        found = exactness.deviations(name)
        weights = "–" if found.weights is None else _number(found.weights)
        yield (
            f"| {name} | {form.architecture} | {_number(found.recorded)} | {_number(found.left_over)} | {weights} | "
            f"{_number(found.batch)} | {found.other_answers} of {len(exactness.TEXTS)} |"
        )


def _number(value: float) -> str:
    return "0" if value == 0.0 else f"{value:.0e}"


TABLES = {"forms": forms, "deviations": deviations}


def placed(page: str, name: str, lines: list[str]) -> str:
    """The page with one of its tables replaced."""
    begin, end = f"<!-- {name}: written by benchmarks.compatibility -->\n", f"<!-- end of {name} -->"
    head, rest = page.split(begin)
    return head + begin + "\n" + "\n".join(lines) + "\n\n" + end + rest.split(end, 1)[1]


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--write", action="store_true", help="put both tables into docs/compatibility.md")
    asked = parser.parse_args(argv)
    from transformers.utils import logging

    logging.set_verbosity_error()
    for name, table in TABLES.items():
        lines = list(table())
        if asked.write:
            PAGE.write_text(placed(PAGE.read_text(encoding="utf-8"), name, lines), encoding="utf-8")
        else:
            sys.stdout.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
