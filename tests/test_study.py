"""The library: what `import refusalctl as rc` offers, on a model organism."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

import refusalctl as rc
from refusalctl.records.rows import Completion
from refusalctl.results import RESULTS, Cost, Transfer
from refusalctl.results.base import result
from refusalctl.store.store import KINDS, Store
from tests import tiny
from tests.golden.make import STORE

ASKED: dict[str, Any] = {
    "model": "organism:shared", "data": "organism:shared", "sources": ["qaa"], "targets": ["qaa", "qab"],
    "n_train": 16, "n_val": 8, "n_test": 10, "max_new_tokens": 8, "layers": [2, 3], "n_controls": 19,
    "control_prompts": 4, "induce": False,
}  # fmt: skip


pytestmark = pytest.mark.xdist_group("study")  # one worker makes what these tests share


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> rc.Study:
    return rc.Study(**ASKED, store=tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def matrix(study: rc.Study) -> Transfer:
    return study.transfer()


def test_importing_costs_nothing_and_brings_no_torch() -> None:
    code = "import sys, time; t = time.perf_counter(); import refusalctl; d = time.perf_counter() - t; "
    code += "import refusalctl.settings; print(d, 'torch' in sys.modules, 'numpy' in sys.modules)"
    seconds, with_torch, with_numpy = min(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    )
    assert float(seconds) < 0.15
    assert (with_torch, with_numpy) == ("False", "False")


def test_a_study_needs_no_torch_until_it_computes(tmp_path: Path) -> None:
    code = (
        "import sys, refusalctl as rc\n"
        f"study = rc.Study(model='organism:shared', data='organism:shared', store={str(tmp_path)!r}, controls=True)\n"
        "study.settings, study.langs, study.all(), repr(study)\n"
        "heavy = {'torch', 'transformers', 'h5py', 'matplotlib', 'scipy', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_name_that_is_offered_is_there() -> None:
    for name in rc.__all__:
        assert getattr(rc, name) is not None
    assert set(rc.__all__) <= set(dir(rc))
    with pytest.raises(AttributeError, match="no attribute 'studdy'"):
        rc.studdy  # noqa: B018


def test_a_study_of_an_unknown_setting_says_which_was_meant() -> None:
    with pytest.raises(rc.BadInput, match="there is no setting 'max_lk'; did you mean 'max_kl'"):
        rc.Study(max_lk=0.2)


def test_a_selection_has_its_vector_place_and_scores(study: rc.Study) -> None:
    chosen = study.selection("qaa")
    assert chosen.vector.shape == (96,)
    assert chosen.layer in (2, 3)
    at = study.directions("qaa").at(chosen.pos, chosen.layer)
    assert torch.equal(chosen.vector, at)
    row = next(r for r in chosen.scores if r["chosen"])
    assert (row["pos"], row["layer"]) == (chosen.pos, chosen.layer)
    assert list(chosen.scores.to_pandas().columns) == ["pos", "layer", "bypass", "induce", "kl", "chosen"]
    assert chosen.words()[0].startswith("by refusal-score: position")


def test_activations_are_mapped_and_are_what_the_direction_was_made_from(study: rc.Study) -> None:
    harmful, harmless = study.activations("qaa", "harmful"), study.activations("qaa", "harmless")
    assert isinstance(harmful.resid_pre, np.memmap)
    assert harmful.resid_pre.shape == (16, len(harmful.positions) + 1, 6, 96)
    assert harmful.prompt_ids == study.prompts("qaa", "harmful", "train").ids
    difference = (harmful.resid_pre.mean(0, dtype=np.float64) - harmless.resid_pre.mean(0, dtype=np.float64))[:-1]
    assert np.allclose(study.directions("qaa").candidates.numpy(), difference, atol=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        harmful.resid_pre[0, 0, 0, 0] = 1.0


def test_ablating_what_was_found_removes_refusals(study: rc.Study) -> None:
    before = study.labels(study.completions("qab"))
    written = study.completions("qab", rc.ablate(study.selection("qaa")))
    after = study.labels(written)
    assert before.counts["refusal"] > 8
    assert after.counts == {"compliance": 10}
    assert after.rate().value == 0
    assert written.checks["hooks_fired"] > 0
    assert written.about["direction_lang"] == "qaa"


def test_the_same_is_never_computed_twice_and_both_ways_to_ask_are_one(study: rc.Study, matrix: Transfer) -> None:
    again = rc.Study(**ASKED, store=study.store.root)
    written = again.completions("qab", rc.ablate(again.selection("qaa")))
    assert written.id in {a.id for a in matrix.lineage.values()}
    assert again.plan
    assert all(line.done for line in again.plan)
    assert not again.bench.models
    assert study.bench.models  # what computed did load one


def test_a_matrix_shows_its_verdicts_as_table_pandas_and_html(study: rc.Study, matrix: Transfer) -> None:
    assert matrix.verdict("qaa", "qab") == "transfers"
    assert matrix.verdict("qab", "qaa") is None
    frame = matrix.to_pandas()
    assert set(frame["condition"]) == {"baseline", "native", "transferred"}
    assert "transfers" in matrix._repr_html_()
    assert [row["from"] for row in matrix.matrix] == ["qaa", "qab"]
    assert any("qaa direction ablated: transfers" in sentence for sentence in matrix.sentences())
    assert "qab" in repr(matrix.matrix)


def test_what_is_shown_never_holds_a_text(study: rc.Study, matrix: Transfer) -> None:
    written = study.completions("qaa")
    texts = [row.text for row in written.rows] + [row.text for row in study.prompts("qaa").rows]
    shown = [show(each) for each in study.all() for show in (repr, lambda result: result._repr_html_())]
    shown += [repr(study.labels(written).table), repr(matrix.matrix)]
    assert {each.kind for each in study.all()} >= {"prompts", "completions", "labels", "selection", "transfer"}
    assert isinstance(written.rows[0], Completion)
    assert not [text for text in texts for each in shown if text in each]


def test_results_open_by_reference_as_the_class_of_their_kind(study: rc.Study, matrix: Transfer) -> None:
    found = rc.open(f"{matrix.id[:12]}", store=study.store.root)
    assert isinstance(found, Transfer)
    assert found == matrix
    with pytest.raises(rc.NotFound):
        rc.open("directions:lang=de", store=study.store.root)
    assert set(RESULTS) == set(KINDS)
    for each in study.all():
        assert type(each) is RESULTS[each.artifact.kind]
        assert each.about
        assert each.id[:12] in each._repr_html_()


def test_lineage_leads_down_to_the_prompts(study: rc.Study) -> None:
    found: Any = study.selection("qaa")
    while found.lineage:
        found = next(iter(found.lineage.values()))
    assert found.kind == "prompts"


def test_an_input_that_the_store_has_lost_is_told_as_lost(tmp_path: Path) -> None:
    alone = rc.Study(**ASKED, store=tmp_path)
    made = alone.prompts("qaa")
    with alone.store.draft() as out:
        (out / "rows.bin").write_bytes(b"x")
        recipe = {"step": "x", "version": 1, "params": {}, "inputs": {"prompts": made.id, "labels": "f" * 64}}
        child = result(alone.store, alone.store.commit(out, "labels", recipe, {"lang": "qaa"}, {}))
    kept, lost = child.lineage["prompts"], child.lineage["labels"]
    assert (kept, kept.lost, lost.lost, lost.id) == (made, False, True, "f" * 64)
    assert "Lost" in repr(lost)
    assert "not in the store" in lost._repr_html_()
    assert lost.lineage == {}
    with pytest.raises(rc.NotFound, match="ffffffffffff is not in the store"):
        lost.check()


def test_a_dry_run_plans_and_computes_nothing(tmp_path: Path) -> None:
    planned = rc.Study(**ASKED, store=tmp_path / "none", dry_run=True)
    matrix = planned.transfer()
    assert matrix.planned
    assert "planned" in repr(matrix)
    assert not any(line.done for line in planned.plan)
    assert planned.forecast().cells > 0
    assert not (tmp_path / "none").exists()


def test_other_settings_share_the_loaded_model(study: rc.Study) -> None:
    study.completions("qaa")
    other = study.changed(max_kl=3.0)
    assert other.settings.selection.max_kl == 3.0
    assert other.bench.model is study.bench.model
    assert study.settings.selection.max_kl is None


# --- interventions on any model ---------------------------------------------------------------------------


def stream(model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(model(ids, output_hidden_states=True).hidden_states)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "qwen3"])
def test_intervene_takes_any_transformers_model_and_a_bare_vector(architecture: str) -> None:
    model, ids = tiny.model(architecture), torch.arange(1, 9)[None]
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    unit = vector / vector.norm()
    before = stream(model, ids)
    with rc.intervene(model, rc.ablate(vector)) as checks:
        during = stream(model, ids)
    after = stream(model, ids)
    assert checks.fired > 0
    assert all(float((h @ unit).abs().max()) < 1e-4 for h in during[:-1])
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    entered: list[torch.Tensor] = []
    with rc.intervene(model, rc.add(vector, 0.5, layer=1)):
        last = model.model.layers[1].register_forward_pre_hook(lambda _m, args: entered.append(args[0]))
        stream(model, ids)
        last.remove()
    assert torch.allclose(entered[0], before[1] + 0.5 * vector, atol=1e-5)


def test_a_span_is_ablated_together() -> None:
    model, ids = tiny.model("llama"), torch.arange(1, 9)[None]
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(32, generator=generator), torch.randn(32, generator=generator)
    with rc.intervene(model, rc.ablate(a, b)):
        during = stream(model, ids)
    for vector in (a, b):
        assert all(float((h @ (vector / vector.norm())).abs().max()) < 1e-4 for h in during[:-1])


def test_what_cannot_be_an_intervention_says_so(study: rc.Study) -> None:
    with pytest.raises(rc.BadInput, match="an ablation needs a direction"):
        rc.ablate()
    with pytest.raises(rc.BadInput, match="a bare vector has none"):
        study.completions("qaa", rc.ablate(torch.ones(96)))
    with pytest.raises(rc.BadInput, match="hold one candidate per position and layer"):
        rc.ablate(study.directions("qaa")).spec()
    with pytest.raises(rc.BadInput, match="holds no direction"):
        rc.ablate(study.prompts("qaa")).spec()
    with pytest.raises(rc.BadInput, match="all results of a store, or all tensors"):
        rc.ablate(study.selection("qaa"), torch.ones(96)).for_model()


def test_a_candidate_acts_like_the_vector_that_it_names(study: rc.Study) -> None:
    candidate = rc.Candidate(study.directions("qaa"), -1, 2)
    found = rc.ablate(candidate).for_model()
    assert torch.equal(found.direction, study.directions("qaa").at(-1, 2))


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rc.Study(**ASKED, store=tmp_path / "s").prompts("qaa")
    assert capsys.readouterr().err == ""


def test_another_machine_is_another_model_and_not_forgotten(study: rc.Study) -> None:
    other = study.changed(batch_size=1, n_test=4)
    assert (other.machine.batch_size, other.settings.prompts.n_test) == (1, 4)
    assert other.machine.model == study.machine.model
    assert study.machine.batch_size != 1
    with pytest.raises(rc.BadInput, match="there is no setting 'batch'"):
        study.changed(batch=1)


def test_what_was_only_planned_has_no_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the folder one is in holds a file of that name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text("")
    dry = rc.Study(**ASKED, store=tmp_path / "store", dry_run=True)
    planned = dry.prompts("qaa")
    assert planned.planned
    with pytest.raises(rc.BadInput, match="only planned"):
        _ = planned.rows
    for refused in (dry.calibrate, dry.precision):
        with pytest.raises(rc.BadInput, match="no plan of steps"):
            refused()


def test_rates_are_those_of_a_transfer_and_of_outcomes_that_exist(study: rc.Study) -> None:
    labels = study.labels(study.completions("qab"))
    labels.rows[:] = [replace(row, outcome="compliance", off_language=i < 3) for i, row in enumerate(labels.rows)]
    assert (labels.rate("compliance").count, labels.rate("off-language").count) == (7, 3)
    for wrong in ("refused", "off_language", "unparsed"):
        with pytest.raises(rc.BadInput, match="there is no rate of"):
            labels.rate(wrong)


def test_every_record_of_a_result_opens(study: rc.Study, matrix: Transfer) -> None:
    golden = Store(STORE)
    opened = [result(golden, golden.open(*each)) for each in golden.ids()]
    records = {each.kind: each.record for each in opened if hasattr(type(each), "record")}
    assert set(records) == {
        "openings", "controls", "comprehension", "geometry", "panel", "correction", "calibration", "transfer",
        "comparison", "cost",
    }  # fmt: skip
    reliability = study.selection("qaa").reliability
    assert reliability is not None
    assert reliability.full is not None
    assert reliability.full > 0.9
    with pytest.raises(rc.BadInput, match="there is no verdict on 'removel'"):
        matrix.verdict("qaa", "qab", "removel")  # type: ignore[arg-type]


def test_arguments_are_taken_or_refused(study: rc.Study) -> None:
    with pytest.raises(rc.BadInput, match="at its own layer"):
        rc.add(study.selection("qaa"), layer=1)
    with pytest.raises(rc.BadInput, match="there is no design 'nope'"):
        study.trials(["nope"])
    with pytest.raises(rc.BadInput, match="two different transfers"):
        study.compare([])
    with pytest.raises(rc.BadInput, match="there is no progress 'quiet'"):
        rc.Study(progress="quiet")  # type: ignore[arg-type]


def test_a_file_gives_a_study_that_may_be_dry(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('[experiment]\ntargets = ["qaa"]\n')
    dry = rc.Study.from_file(tmp_path / "x.toml", dry_run=True, progress="silent", sources="qab,qab")
    assert dry.bench.dry_run
    assert dry.langs == ("qab", "qaa")


def test_every_method_takes_a_language_in_any_spelling_and_refuses_what_is_none(tmp_path: Path) -> None:
    """Whatever method comes next: its parameters that name languages are found by their names."""
    import inspect

    named = {"lang", "source", "target", "reference", "langs"}
    unwanted = {"open", "open_completions", "open_labels", "open_sample", "end_of_instruction"}  # of a result
    plan = rc.Study(**ASKED, store=tmp_path, dry_run=True)
    tried = set()
    for name, method in inspect.getmembers(rc.Study, inspect.isfunction):
        takes = [p for p in inspect.signature(method).parameters if p in named]
        if name.startswith("_") or name in unwanted or not takes:
            continue
        for each in takes:
            given: dict[str, Any] = {p: "qaa" for p in takes if p in ("lang", "source", "target")}
            given |= {"langs": ["qaa", "qab"]} if "langs" in takes else {}
            given[each] = ["by", "qaa"] if each == "langs" else "by"
            with pytest.raises(rc.BadInput, match="'by' is no language code; did you mean 'be'"):
                getattr(plan, name)(**given)
            tried.add((name, each))
    assert len(tried) >= 12
    assert plan.directions("QAA").id == plan.directions("qaa").id
    assert plan.geometry(["QAA", "qab"], reference="QAB").id == plan.geometry(["qaa", "qab"], reference="qab").id


# --- what an intervention costs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("texts") / "plain.txt"
    file.write_text("One short text about bread.\n\nAnother one, about a bicycle and rain.\n")
    return file


@pytest.fixture
def lm_eval(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What lm-eval would be asked, answered without it: one item of three is right under an intervention."""
    from refusalctl.model import harness

    asked: list[str] = []

    def run(_model: Any, task: Any, intervention: Any, _size: int, _checks: Any) -> harness.HarnessRun:
        asked.append(intervention.kind)
        right = [1.0, 0.0, 1.0] if intervention.kind == "none" else [1.0, 0.0, 0.0]
        items = [
            harness.HarnessItem(task.name, str(i), "none", f"d{i}", f"p{i}", f"t{i}", {"acc": acc})
            for i, acc in enumerate(right)
        ]
        return harness.HarnessRun(items, 3, ())

    monkeypatch.setattr(harness, "version", lambda: "0.0.test")
    monkeypatch.setattr(harness, "run_task", run)
    monkeypatch.setattr(harness, "count_requests", lambda _task: 12)
    return asked


def panel(study: rc.Study, texts: Path, **more: Any) -> Cost:
    """Ablation and addition of one direction, on a ladder of two doses."""
    direction = study.selection("qaa")
    asked = {"langs": ["qaa"], "doses": [0.5], "tasks": ["some_task"], "texts": {"en": texts}} | more
    return study.cost([rc.ablate(direction), rc.add(direction, -1.0)], **asked)


@pytest.fixture
def costs(study: rc.Study, matrix: Transfer, texts: Path, lm_eval: list[str]) -> Cost:
    return panel(study, texts, contrasts=["organism:shared"])


def test_a_cost_panel_holds_every_measure_of_every_arm_at_every_dose(costs: Cost) -> None:
    found = {(e.arm, e.dose, e.measure) for e in costs.record.effects}
    measures = {"removal", "kl", "task", "text", "own", "safe", "unsafe"}
    assert found == {(arm, dose, m) for arm in ("ablate qaa", "add -1 qaa") for dose in (0.5, 1.0) for m in measures}
    assert not costs.record.unmeasured
    (removal,) = costs.record.of("ablate qaa", 1.0, "removal", "qaa")
    assert removal.difference is not None
    assert removal.difference > 0.5
    (task,) = costs.record.of("ablate qaa", 1.0, "task")
    assert (task.before, task.after, task.forth, task.back) == (pytest.approx(2 / 3), pytest.approx(1 / 3), 0, 1)
    (drift,) = costs.record.of("add -1 qaa", 1.0, "kl")
    (half,) = costs.record.of("add -1 qaa", 0.5, "kl")
    assert drift.difference is not None
    assert half.difference is not None
    assert 0 < half.difference < drift.difference
    assert {m.by for m in costs.record.matches} == {"removal", "kl"}


def test_the_full_dose_is_the_intervention_of_the_matrix_and_is_not_run_again(
    study: rc.Study, matrix: Transfer, costs: Cost
) -> None:
    (cell,) = [c for c in matrix.record.cells if (c.source, c.target, c.condition) == ("qaa", "qaa", "native")]
    (removal,) = costs.record.of("ablate qaa", 1.0, "removal", "qaa")
    assert removal.changed == cell.labels
    assert cell.removal is not None
    assert removal.difference == pytest.approx(cell.removal.removed)


def test_losses_and_drift_are_those_of_the_intervened_model(study: rc.Study, costs: Cost) -> None:
    """Against passes of one row each, taken here."""
    model = study.bench.model
    (own,) = [e for e in costs.record.of("ablate qaa", 1.0, "own") if e.unit == "nats/token"]
    answers = study.completions("qaa", kind="harmless")
    prompts = {p.id: p for p in study.prompts("qaa", "harmless").rows}
    total, tokens = 0.0, 0
    with torch.inference_mode(), rc.intervene(model.model, rc.ablate(study.selection("qaa"))):
        for row in answers.rows:
            start = model.chat.encode(prompts[row.prompt_id].text)
            ids = [*start, *row.token_ids]
            logprob = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
            total -= sum(float(logprob[i - 1, ids[i]]) for i in range(len(start), len(ids)))
            tokens += len(row.token_ids)
    assert own.after == pytest.approx(total / tokens, rel=1e-3, abs=1e-6)


def test_a_cost_panel_is_found_again_and_goes_on_where_it_stopped(
    study: rc.Study, costs: Cost, texts: Path, lm_eval: list[str]
) -> None:
    lm_eval.clear()
    assert panel(study, texts, contrasts=["organism:shared"]) == costs
    assert lm_eval == []
    more = panel(study, texts, tasks=["some_task", "another"])
    assert lm_eval == ["none", "ablate", "ablate", "add", "add"]  # of the new task alone
    assert more != costs
    assert costs.lineage["after:0"].kind == "drift"


def test_a_plan_of_a_cost_panel_counts_its_passes(
    study: rc.Study, costs: Cost, texts: Path, lm_eval: list[str]
) -> None:
    lm_eval.clear()
    dry = rc.Study(**ASKED, store=study.store.root, dry_run=True)
    assert panel(dry, texts, doses=[0.25], tasks=["some_task", "a_third"]).planned
    work = {(row.step, row.lang): row.work.forward for row in dry.forecast().rows}
    assert work["lm-eval", "some_task"] == 2 * 12  # the new dose of two arms; the rest is done
    assert work["lm-eval", "a_third"] == 5 * 12  # the baseline and two arms at two doses
    assert lm_eval == []


def test_removal_and_cost_stand_in_one_line_under_the_verdict(study: rc.Study, matrix: Transfer, costs: Cost) -> None:
    line = costs.sentences()[0]
    assert line.startswith("ablate qaa in ")
    assert "refusals removed" in line
    assert "; cost: KL, harmless prompts 0.000" in line
    assert "some_task acc −33" in line
    report = study.report([matrix], geometry=False, costs=[costs])
    page = report.page.read_text(encoding="utf-8")
    assert page.count(line.replace("'", "&#39;")) >= 2  # under the verdict, and in the section
    assert '<h2 id="cost">' in page
    assert (report.path / "cost.png").read_bytes().startswith(b"\x89PNG")
    lines = (report.path / "cost.csv").read_text(encoding="utf-8").splitlines()
    (row,) = [r for r in csv.DictReader(lines) if (r["arm"], r["dose"], r["measure"]) == ("ablate qaa", "1", "task")]
    assert (row["forth"], row["back"], row["unit"]) == ("0", "1", "share")


def test_a_cost_of_other_directions_is_not_shown_beside_a_matrix(
    study: rc.Study, matrix: Transfer, costs: Cost, lm_eval: list[str]
) -> None:
    other = study.changed(layers=[2]).selection("qab")
    foreign = study.cost(rc.ablate(other), langs=["qab"], doses=[1.0])
    with pytest.raises(rc.BadInput, match="of another model, or of directions that these transfers do not hold"):
        study.report([matrix], geometry=False, costs=[foreign])


def test_what_cannot_be_a_cost_says_so(study: rc.Study) -> None:
    direction = study.selection("qaa")
    with pytest.raises(rc.BadInput, match="none was given"):
        study.cost()
    with pytest.raises(rc.BadInput, match="expected more than 0"):
        study.cost(rc.ablate(direction), doses=[0.0])
    with pytest.raises(rc.BadInput, match="strength of an ablation is 2"):
        study.cost(rc.ablate(direction), doses=[2.0])
    with pytest.raises(rc.BadInput, match="chosen positions of the prompt has no meaning"):
        study.cost(rc.ablate(direction, positions=[-1]), doses=[1.0])
    with pytest.raises(rc.BadInput, match="expected a share above 0"):
        study.cost(rc.ablate(direction), match_removal=90)
    with pytest.raises(rc.BadInput, match="of lm-eval's tasks, and none was given"):
        study.cost(rc.ablate(direction), limit=5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"contrasts": ["xstset"]}, "xstset"),
        ({"behaviours": [rc.Behaviour("organism:shared")]}, "give one of them"),
        ({"behaviours": [rc.Behaviour("organism:shared", phrases=("a", " "))]}, "an empty one"),
        ({"behaviours": [rc.Behaviour("organism:shared", judge="phrasess.txt")]}, "there is no judge 'phrasess.txt'"),
        ({"behaviours": [rc.Behaviour("organism:shared", phrases=(x,)) for x in "ab"]}, "two behaviours are called"),
    ],
)
def test_what_is_not_there_is_said_before_the_first_pass(study: rc.Study, asked: dict[str, Any], said: str) -> None:
    direction = study.selection("qaa")
    before = set(study.store.ids())
    with pytest.raises(rc.RefusalctlError, match=said):
        study.cost(rc.ablate(direction), langs=["qab"], doses=[1.0], **asked)
    assert set(study.store.ids()) == before


def test_the_line_under_a_verdict_is_of_what_was_done_there(
    study: rc.Study, matrix: Transfer, lm_eval: list[str]
) -> None:
    """An ablation at some layers alone is another one, of the same direction and kind."""
    direction = study.selection("qaa")
    two = study.cost([rc.ablate(direction), rc.ablate(direction, layers=[3])], langs=["qaa"], doses=[1.0])
    whole, part = two.sentences()[:2]
    assert whole != part
    page = study.report([matrix], geometry=False, costs=[two]).page.read_text(encoding="utf-8")
    assert page.count(whole.replace("'", "&#39;")) > page.count(part.replace("'", "&#39;"))
