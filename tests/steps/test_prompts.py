"""One draw for all languages of an experiment, also where each language has prompts of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.data import sets
from refusalctl.data.jsonl import write_jsonl
from refusalctl.errors import BadInput
from refusalctl.records.rows import Prompt
from refusalctl.settings import Machine, Settings
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store


@pytest.fixture
def bench(home: Path, tmp_path: Path) -> Workbench:
    """`qaa` has ten prompts more than `qab`; those of `qac` are no translations of theirs."""
    for lang, numbers in {"qaa": range(20), "qab": range(10, 20), "qac": range(50, 60)}.items():
        rows = [
            Prompt(f"{kind}-{i}", lang, kind, "test", f"text {i} {kind}").to_json()  # type: ignore[arg-type]
            for kind in ("harmful", "harmless")
            for i in numbers
        ]
        write_jsonl(sets.own_dir() / "mine" / f"{lang}.jsonl", rows)
    return Workbench(Store(tmp_path / "store"), Machine("none"))


def drawn(bench: Workbench, lang: str, kind: str, langs: tuple[str, ...]) -> list[str]:
    asked = Settings.of(data="mine", n_test=6, sources=langs)
    return [p.id for p in read_prompts(draw_prompts(bench.asking(asked), lang, kind, "test"))]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["harmful", "harmless"])
def test_a_language_with_more_prompts_is_asked_the_same_ones(bench: Workbench, kind: str) -> None:
    """Published runs drew English from a pool of its own, which confounds language with prompt set."""
    both = [drawn(bench, lang, kind, ("qaa", "qab")) for lang in ("qaa", "qab")]
    assert both[0] == both[1]
    assert len(both[0]) == 6
    assert drawn(bench, "qaa", kind, ("qaa",)) != both[0]


def test_harmful_prompts_that_are_not_parallel_are_refused_and_harmless_ones_drawn_apart(bench: Workbench) -> None:
    with pytest.raises(BadInput, match=r"0 are shared by qaa, qac"):
        drawn(bench, "qaa", "harmful", ("qaa", "qac"))
    assert set(drawn(bench, "qac", "harmless", ("qaa", "qac"))) <= {f"harmless-{i}" for i in range(50, 60)}
    assert bench.notes == ["qac: its harmless test prompts are not parallel with qaa: another draw"]
