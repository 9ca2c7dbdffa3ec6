"""What `artifacts show` says of a finding, and control directions written out as cells of a transfer."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from refusalctl.cli import app as cli
from refusalctl.errors import BadInput
from refusalctl.report.artifact_words import described
from refusalctl.settings import Machine, Settings
from refusalctl.steps.completions import read_completions
from refusalctl.steps.interventions import InterventionSpec, from_recipe, resolve_direction
from refusalctl.steps.selection.controls import VECTORS
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import measure_transfer, read_transfer
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store

pytestmark = pytest.mark.xdist_group("artifact words")  # one worker makes what these tests share

NAME = "organism:shared"
LANGS = ("qaa", "qab")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workbench, Settings, Artifact]:
    bench = Workbench(Store(tmp_path_factory.mktemp("words")), Machine(NAME, batch_size=64))
    experiment = Settings.of(
        sources=("qaa",),
        targets=("qab",),
        data=NAME,
        n_train=32,
        n_val=12,
        n_test=24,
        max_new_tokens=8,
        layers=(2, 3),
        induce=False,
        n_controls=19,
        control_prompts=4,
        control_completions=2,
    )
    return bench, experiment, measure_transfer(bench.asking(experiment))


def the(bench: Workbench, kind: str, **about: str) -> Artifact:
    return next(a for a in bench.store.all(kind) if all(a.about.get(k) == v for k, v in about.items()))


def test_show_says_what_was_found_and_how_sure(
    made: tuple[Workbench, Settings, Artifact], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = made[0]
    monkeypatch.setenv("COLUMNS", "250")
    wanted = {
        "selection": ("by refusal-score: position", "refusal-score: position", "cosmic: position", "bootstraps",
                      "noise ceiling"),
        "directions": ("split-half cosine", "reliability", "noise ceiling"),
        "openings": ("derived: 100% of", "by 'style' (12 refusals, 12 other answers, 0 left out): AUROC 1.00 [1.00"),
        "controls": ("the refusal score drops by", "19 draws, searched over", "p 0.05",
                     "smallest p that these draws can give: 0.05"),
        "comprehension": ("harmfulness AUROC", "necessary, not sufficient", "32 of 32 harmless train prompts answered, "
                          "100% of 32 in the language asked"),
        "cosmic": ("cosine after ablation", "streams compared at layers"),
    }  # fmt: skip
    for kind, phrases in wanted.items():
        lang = {} if kind == "controls" else {"lang": "qab"}
        found = the(bench, kind, **lang)
        asked = ["artifacts", "show", found.id, "--store", str(bench.store.root)]
        monkeypatch.setattr(sys, "argv", ["refusalctl", *asked])
        with pytest.raises(SystemExit):
            cli.main()
        shown = capsys.readouterr().out
        for phrase in phrases:
            assert phrase in shown, (kind, phrase, shown)


def test_show_goes_on_where_a_file_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Workbench(Store(tmp_path), Machine(NAME, batch_size=64))
    from refusalctl.steps.selection.openings import derive_openings

    found = derive_openings(bench.asking(Settings.of(data=NAME, n_train=16, n_val=8)), "qaa")
    (found.path / "openings.json").write_text("{")
    monkeypatch.setattr(sys, "argv", ["refusalctl", "artifacts", "show", found.id, "--store", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    assert not stopped.value.code
    assert found.id in captured.out
    assert "openings.json" in captured.err


def test_words_are_for_findings_alone(made: tuple[Workbench, Settings, Artifact]) -> None:
    bench = made[0]
    assert described(the(bench, "activations")) == []


def test_a_few_controls_are_written_out_and_remove_nothing(made: tuple[Workbench, Settings, Artifact]) -> None:
    bench, _experiment, matrix = made
    found = read_transfer(matrix).cells
    kinds = Counter((c.condition, c.source) for c in found)
    assert kinds == {
        ("baseline", None): 1, ("native", "qab"): 1, ("transferred", "qaa"): 1,
        ("within_class", "qaa"): 2,  # no verdict rests on qab's own direction
    }  # fmt: skip
    ids = {
        tuple(c.prompt_id for c in read_completions(bench.store.open("completions", cell.completions)))
        for cell in found
    }
    assert len(ids) == 1  # the prompts of the baseline that they are paired with
    real = next(c for c in found if c.condition == "transferred")
    assert real.flips is not None
    assert real.flips.removed > 12
    for cell in found:
        if cell.condition == "within_class":
            assert cell.draw in (0, 1)
            assert cell.flips is not None
            assert cell.flips.removed < real.flips.removed / 2
            assert cell.removal is None


def test_a_control_cell_ablates_the_draw_that_it_names(made: tuple[Workbench, Settings, Artifact]) -> None:
    bench, _experiment, matrix = made
    families, _header = formats.read_vectors(
        the(bench, "control_directions", lang="qaa").path / VECTORS, "control_directions"
    )
    for cell in read_transfer(matrix).cells:
        if cell.condition == "within_class" and cell.source == "qaa":
            written = bench.store.open("completions", cell.completions)
            asked = written.manifest["recipe"]["params"]["intervention"]
            assert (asked["kind"], asked["family"], asked["draw"]) == ("ablate", "within_class", cell.draw)
            drawn = bench.store.open("control_directions", written.inputs["direction"])
            acting = resolve_direction(from_recipe(asked, {"direction": drawn})).direction
            assert acting is not None
            assert acting.equal(families["within_class"][cell.draw])


def test_a_family_and_a_draw_belong_to_control_directions(made: tuple[Workbench, Settings, Artifact]) -> None:
    bench = made[0]
    drawn, chosen = the(bench, "control_directions"), the(bench, "selection")
    for wrong in (
        InterventionSpec("ablate", drawn),
        InterventionSpec("ablate", drawn, family="within_class"),
        InterventionSpec("add", drawn, family="within_class", draw=0),
        InterventionSpec("ablate", chosen, family="within_class", draw=0),
    ):
        with pytest.raises(BadInput):
            wrong.check(bench)
    for family, draw in (("within_class", 19), ("within_class", -1), ("luck", 0)):
        with pytest.raises(BadInput, match="holds no draw"):
            resolve_direction(InterventionSpec("ablate", drawn, family=family, draw=draw))


def test_none_are_written_out_where_none_are_asked_for(made: tuple[Workbench, Settings, Artifact]) -> None:

    bench, experiment, _matrix = made
    matrix = measure_transfer(bench.asking(experiment.changed(control_completions=0)))
    assert {c.condition for c in read_transfer(matrix).cells} == {"baseline", "native", "transferred"}
    with pytest.raises(BadInput, match="control_completions"):
        experiment.changed(control_completions=-1)


def test_the_report_lists_them(made: tuple[Workbench, Settings, Artifact]) -> None:
    from refusalctl.report.make import make_report

    page = (make_report(made[0], [made[2]], geometry=False).path / "report.html").read_text(encoding="utf-8")
    assert "draw 1" in page
    assert "Control direction" in page
