"""Published directions and scores as artifacts: applied, chosen again, hostile and broken files."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from refusalctl.errors import DataError, EmptySelection
from refusalctl.records.transfer import ChosenDirection
from refusalctl.report.selection_words import described
from refusalctl.stats.selection_rule import PRESETS
from refusalctl.steps.interventions import InterventionSpec, resolve_direction
from refusalctl.steps.published.request import Request
from refusalctl.steps.published.runs import import_files
from refusalctl.steps.selection.scores import chosen_candidate, read_scores
from refusalctl.steps.step import Workbench
from tests.steps.published.published_files import EVALUATED, by_kind, file, rows


def run_folder(tmp_path: Path, nan: bool = False) -> Path:
    """A run as published: 2 positions, 4 layers, the best under Arditi's rule at (-1, 1), under Wang's at (-2, 2)."""
    home = tmp_path / "run"
    for name in ("generate_directions", "select_direction", "completions"):
        (home / name).mkdir(parents=True)
    means = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.save(means, home / "generate_directions" / "mean_diffs.pt")
    torch.save([means[-2, 2]], home / "direction_ablation.pt")
    (home / "direction_metadata_ablation.json").write_text('{"pos": [-2], "layer": [2]}')
    scores = [
        {"position": p, "layer": n, "refusal_score": -float(n), "steering_score": 1.0, "kl_div_score": 0.05}
        for p in (-2, -1)
        for n in range(4)
    ]
    scores[2] |= {"refusal_score": -9.0, "steering_score": -1.0, "kl_div_score": 0.15}
    scores[5] |= {"refusal_score": -5.0}
    if nan:
        scores = [row | {"refusal_score": float("nan")} for row in scores]
    (home / "select_direction" / "direction_evaluations_ablation.json").write_text(json.dumps(scores))
    (home / "select_direction" / "direction_evaluations_filtered_ablation.json").write_text("[]")
    (home / "completions" / "harmful_baseline_completions.json").write_text(json.dumps(rows()))
    evaluated = {"completions": rows(**EVALUATED)}
    (home / "completions" / "harmful_baseline_evaluations.json").write_text(json.dumps(evaluated))
    return home


def test_a_run_s_directions_can_be_applied_and_chosen_again(bench: Workbench, tmp_path: Path) -> None:
    home = run_folder(tmp_path)
    request = Request("de", "here", "m", rule=PRESETS["arditi"])
    found = by_kind(import_files(bench, [home], request))
    assert len(found["completions"]) == 1  # the evaluations hold the completions of the file beside them
    means = torch.load(home / "generate_directions" / "mean_diffs.pt", weights_only=True).float()
    published, chosen = found["selection"]
    vectors = {a.id: resolve_direction(InterventionSpec("ablate", a)) for a in (published, chosen)}
    assert torch.equal(vectors[published.id].direction, means[-2, 2])
    assert torch.equal(vectors[chosen.id].direction, means[-1, 1])
    assert chosen_candidate(published) == ChosenDirection(published.id, -2, 2, -9.0, -1.0, 0.15)
    assert (chosen.about["rule"], chosen_candidate(chosen).layer) == ("arditi", 1)
    assert any("how steady the choice is cannot be told" in line for line in described(chosen))
    one = InterventionSpec("ablate", found["directions"][0], pos=-1, layer=3)
    assert torch.equal(resolve_direction(one).direction, means[-1, 3])
    wang = by_kind(import_files(bench, [home], Request("de", "here", "m", rule=PRESETS["wang"])))
    assert chosen_candidate(wang["selection"][1]).bypass == -9.0
    assert not [n for n in bench.notes if "another run" in n]


def test_what_an_import_did_not_bring_is_said_to_be_unknown(bench: Workbench, tmp_path: Path) -> None:
    from refusalctl.report import artifact_words

    found = by_kind(import_files(bench, [run_folder(tmp_path)], Request("de", "here", "m", rule=PRESETS["arditi"])))
    for kind in ("directions", "selection"):
        text = "\n".join(artifact_words.described(found[kind][0]))
        assert "how reliable the direction is cannot be told" in text
        assert "share no direction" not in text


def test_a_direction_that_is_not_the_candidate_its_metadata_names_is_noted(bench: Workbench, tmp_path: Path) -> None:
    home = run_folder(tmp_path)
    torch.save(torch.ones(8), home / "direction_ablation.pt")
    import_files(bench, [home], Request("de"))
    assert any("direction_ablation.pt is not the candidate at position -2, layer 2" in note for note in bench.notes)


def test_scores_that_are_all_nan_are_an_error_and_no_choice(bench: Workbench, tmp_path: Path) -> None:
    """As in the published Bashkir and Tajik runs, whose code fell back to position 0, layer 0."""
    with pytest.raises(DataError, match="scores of all 8 candidates are NaN"):
        import_files(bench, [run_folder(tmp_path, nan=True)], Request("de"))
    assert not bench.store.ids()


def test_an_emptied_choice_leaves_nothing(bench: Workbench, tmp_path: Path) -> None:

    rule = PRESETS["arditi"].with_limits(max_kl=0.01)
    with pytest.raises(EmptySelection, match="none of 8 candidates passes"):
        import_files(bench, [run_folder(tmp_path) / "select_direction", tmp_path / "run" / "generate_directions"],
                     Request("de", rule=rule))  # fmt: skip
    assert not bench.store.ids()


class Payload:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["mean_diffs.pt", "direction.pt"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_that_runs_code_is_refused(bench: Workbench, tmp_path: Path, name: str, plain: bool) -> None:
    mark, path = tmp_path / "ran", tmp_path / name
    if plain:
        path.write_bytes(pickle.dumps(Payload(mark)))
    else:
        torch.save({"weights": torch.ones(2), "more": Payload(mark)}, path)
    torch.load(path, weights_only=False) if not plain else pickle.loads(path.read_bytes())  # the payload is live
    assert mark.is_dir()
    mark.rmdir()
    with pytest.raises(DataError, match=r"holds more than tensors|cannot be read"):
        import_files(bench, [path], Request("de"))
    assert not mark.exists()
    assert not bench.store.ids()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 broken", b"\x80\x04junk", b"hello"],
)
def test_a_broken_tensor_file_is_one_clear_line(bench: Workbench, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mean_diffs.pt").write_bytes(content)
    with pytest.raises(DataError) as caught:
        import_files(bench, [tmp_path / "mean_diffs.pt"], Request("de"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tensor", [torch.ones(3, 4), torch.ones(2, 3, 4, dtype=torch.int64), torch.full((2, 3, 4), float("nan")), {"a": 1}]
)
def test_tensors_of_another_shape_or_without_numbers_are_refused(bench: Workbench, tmp_path: Path, tensor: Any) -> None:
    torch.save(tensor, tmp_path / "mean_diffs.pt")
    with pytest.raises(DataError, match=r"mean_diffs.pt holds"):
        import_files(bench, [tmp_path / "mean_diffs.pt"], Request("de"))


def test_a_direction_without_its_place_and_scores_of_another_run(bench: Workbench, tmp_path: Path) -> None:
    torch.save(torch.ones(8), tmp_path / "direction.pt")
    with pytest.raises(DataError, match="0 files tell its position"):
        import_files(bench, [tmp_path / "direction.pt"], Request("de"))
    torch.save(torch.ones(1, 2, 8), tmp_path / "mean_diffs.pt")
    score = [{"position": -3, "layer": 0, "refusal_score": 0.0, "steering_score": 0.0, "kl_div_score": 0.0}]
    other = file(tmp_path, "direction_evaluations.json", score)
    with pytest.raises(DataError, match="belong to different runs"):
        import_files(bench, [tmp_path / "mean_diffs.pt", other], Request("de"))


def test_imported_scores_carry_no_made_up_prompts(bench: Workbench, tmp_path: Path) -> None:
    found = by_kind(import_files(bench, [run_folder(tmp_path)], Request("de")))
    table = read_scores(found["scores"][0])
    assert table.validation is None
    assert table.candidates[0].per_prompt is None
    assert table.untold
