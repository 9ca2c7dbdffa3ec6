"""`refusalctl cost`: what its texts mean, and what it says of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from refusalctl.cli import cost
from refusalctl.steps.costs.panel import Behaviour


class Asked:
    """A study that tells what it was asked."""

    def intervention(self, *args: Any) -> Any:
        return args


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("ablate:selection:lang=be", ([("selection:lang=be", None)], "ablate", 1.0)),
        ("add=-1.5:abc", ([("abc", None)], "add", -1.5)),
        ("affine:abc@-1,12", ([("abc", (-1, 12))], "affine", 1.0)),
        ("subspace:abc+def", ([("abc", None), ("def", None)], "subspace", 1.0)),
    ],
)
def test_an_intervention_is_a_kind_and_references(text: str, asked: Any) -> None:
    assert cost._intervention(Asked(), text) == asked  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["abc", "none:abc", "nope:abc", "ablate:", "add=much:abc", "ablate:abc@1"])
def test_a_wrong_intervention_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        cost._intervention(Asked(), text)  # type: ignore[arg-type]


def test_texts_doses_and_behaviours_are_read(tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("as an assistant\n\n  of course \n")
    assert cost._text("ba=a/b.txt") == ("ba", Path("a/b.txt"))
    assert cost._doses("0.5,1") == [0.5, 1.0]
    assert cost._behaviour(f"mine={phrases}") == Behaviour(
        "mine", "harmless", ("as an assistant", "of course"), label="phrases.txt"
    )
    assert cost._behaviour("mine:harmful=substring") == Behaviour("mine", "harmful", None, "substring")
    phrases.write_text("\n")
    for call, text in (
        (cost._text, "a.txt"), (cost._text, "en="), (cost._doses, "half"), (cost._behaviour, "mine"),
        (cost._behaviour, "mine:other=substring"), (cost._behaviour, f"mine={phrases}"),
    ):  # fmt: skip
        with pytest.raises(typer.BadParameter):
            call(text)  # type: ignore[operator]
