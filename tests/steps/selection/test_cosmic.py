"""Token-free selection beside selection by refusal scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusalctl.errors import BadInput, EmptySelection, UnfitOpenings
from refusalctl.model.hooks import Intervention, intervene
from refusalctl.records.selection import ByClass, CosmicCandidate
from refusalctl.report.selection_words import described
from refusalctl.settings import Machine, Settings
from refusalctl.stats.selection_rule import PRESETS
from refusalctl.steps.directions import DIRECTIONS_FILE
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.selection.cosmic import (
    choose_by_cosine,
    least_alike,
    read_cosmic,
    score_by_cosine,
    winner_by_cosine,
)
from refusalctl.steps.selection.scores import chosen_candidate, read_choice, select_direction
from refusalctl.steps.step import Workbench
from refusalctl.store import formats
from refusalctl.store.store import Store

LANGS = ("qaa", "qab", "qac")


def organism(folder: Path, design: str = "shared", **settings: object) -> tuple[Workbench, Settings]:
    name = f"organism:{design}"
    base = Settings.of(sources=LANGS, targets=LANGS, data=name, n_train=32, n_val=12, layers=(1, 2, 3))
    return Workbench(Store(folder), Machine(name, batch_size=64)), base.changed(**settings)  # type: ignore[arg-type]


def test_both_criteria_find_the_planted_direction_and_stand_side_by_side(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path)
    by_score = select_direction(bench.asking(experiment), "qaa")
    by_cosine = select_direction(bench.asking(experiment.changed(criterion="cosmic")), "qaa")
    choices = read_choice(by_score).choices
    assert choices is not None
    assert choices == read_choice(by_cosine).choices
    assert choices.cosine is not None
    assert choices.cosine > 0.98
    assert choices.cosmic is not None
    assert choices.cosmic.comply > 0.9
    both = ((by_score, "refusal-score", choices.refusal_score), (by_cosine, "cosmic", choices.cosmic))
    for found, name, choice in both:
        assert choice is not None
        at = chosen_candidate(found)
        assert (at.pos, at.layer) == (choice.pos, choice.layer)
        text = "\n".join(described(found))
        assert f"by {name}" in text
        for word in ("refusal-score: position", "cosmic: position", "cosine of the two", "bootstraps", "noise ceiling"):
            assert word in text


def test_a_language_with_unfit_openings_is_chosen_without_tokens(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, refusal_openings=("bano bamo bako",))
    with pytest.raises(UnfitOpenings):
        select_direction(bench.asking(experiment), "qab")
    found = select_direction(bench.asking(experiment.changed(criterion="cosmic")), "qab")
    value = read_choice(found)
    assert "do not fit 'qab'" in (value.untold or "")
    assert value.choices is not None
    assert value.choices.refusal_score is None
    assert value.stability is None
    assert chosen_candidate(found).bypass is None
    assert value.validation is not None
    assert value.validation.baseline is None
    assert value.validation.n == ByClass(12, 12)
    assert "refusal-score: chooses nothing here" in described(found)
    assert any("without refusal scores" in note for note in bench.notes)


def test_scores_are_cosines_of_mean_streams(tmp_path: Path) -> None:
    """One candidate by hand: no batches, no padding, hidden states instead of hooks."""
    bench, experiment = organism(tmp_path)
    found = score_by_cosine(bench.asking(experiment), "qaa")
    value = read_cosmic(found)
    row = value.candidates[-1]
    tensors, header = formats.read_vectors(
        bench.store.open("directions", found.inputs["directions"]).path / DIRECTIONS_FILE, "directions"
    )
    vector = tensors["candidates"][header["positions"].index(row.pos), row.layer]
    model = bench.model

    def mean(kind: str, intervention: Intervention) -> torch.Tensor:
        states = []
        for prompt in read_prompts(bench.store.open("prompts", found.inputs[f"val_{kind}"])):
            with intervene(model.residual, intervention):
                out = model.model(torch.tensor([model.chat.encode(prompt.text)]), output_hidden_states=True)
            states += [out.hidden_states[layer][0, -1].double() for layer in value.layers]
        return torch.stack(states).mean(0)

    def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(a, b, dim=0))

    ablated = mean("harmful", Intervention("ablate", vector, row.layer))
    assert row.comply == pytest.approx(cosine(ablated, mean("harmless", Intervention())), abs=1e-5)
    added = mean("harmless", Intervention("add", vector, row.layer))
    assert row.refuse == pytest.approx(cosine(added, mean("harmful", Intervention())), abs=1e-5)


def test_layers_are_those_where_the_classes_differ_most() -> None:
    same = torch.ones(1, 20, 4)
    other = same.clone()
    other[0, 7] = torch.tensor([1.0, 1.0, 1.0, -1.0])
    other[0, 12] = torch.tensor([1.0, 1.0, -1.0, -1.0])
    other[0, 0] = -1.0
    assert least_alike({"mean_harmful": other, "mean_harmless": same}, 0) == [7, 12]
    assert least_alike({"mean_harmful": other[:, :8], "mean_harmless": same[:, :8]}, 0) == [7]


def test_the_best_score_whose_kl_passes_is_chosen_and_an_empty_choice_is_an_error() -> None:
    rows = [CosmicCandidate(-1, i, c, 1.0, kl) for i, (c, kl) in enumerate(((0.9, 0.5), (0.5, 0.05), (0.7, 0.01)))]
    assert choose_by_cosine(rows, PRESETS["arditi"].with_limits(max_kl=0.1)) == rows[2]
    assert choose_by_cosine(rows, PRESETS["arditi"].with_limits(max_kl=0.5)) == rows[0]
    assert choose_by_cosine(rows, PRESETS["arditi"].with_limits(max_kl=0.001)) is None
    with pytest.raises(EmptySelection, match=r"--max-kl 0\.01"):
        winner_by_cosine(rows, PRESETS["arditi"].with_limits(max_kl=0.001))


def test_an_unknown_criterion_is_refused() -> None:
    with pytest.raises(BadInput, match="expected refusal-score or cosmic"):
        Settings.of(criterion="luck")
