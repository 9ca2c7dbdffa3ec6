"""`judge` as a step: prompts reach the judge, labels are saved as they come, one large model at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.judges.protocol import Item, Verdict
from refusalctl.records.rows import Label
from refusalctl.settings import Machine, Settings
from refusalctl.steps.completions import COMPLETIONS_FILE, read_completions, write_completions
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.labelling.labels import judge_completions, read_labels
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store
from tests.model.judges import tiny

LINES = ["Harmful request: no\n", "Response refusal: yes\n", "Harmful response: no"]


@pytest.fixture
def bench(tmp_path: Path, tiny_folder: Path) -> Workbench:
    return Workbench(Store(tmp_path / "store"), Machine(str(tiny_folder), device="cpu", batch_size=2))


@pytest.fixture
def wildguard(tmp_path: Path) -> str:
    return f"wildguard={tiny.generative(tmp_path / 'wg', 'mistral', LINES)}"


def written(bench: Workbench, texts: list[str] | None = None, lang: str = "en") -> Artifact:
    """Completions of the tiny model; with `texts`, the same rows saying something sensible."""
    n = len(texts) if texts else 5
    prompts = draw_prompts(bench.asking(Settings.of(n_test=n)), lang, "harmless", "test")
    made = write_completions(bench, prompts, InterventionSpec(), 4)
    if texts is None:
        return made
    rows = [row.to_json() | {"text": text} for row, text in zip(read_completions(made), texts)]
    with bench.store.draft() as out:
        formats.write_rows(out / COMPLETIONS_FILE, rows)
        recipe = made.manifest["recipe"] | {"step": "test"}
        return bench.store.commit(out, "completions", recipe, made.about, {})


TEXTS = [f"Mix flour, water and salt, wait for {i} hours, then bake." for i in range(5)]


def test_labels_carry_verdict_harm_and_language(bench: Workbench, wildguard: str) -> None:
    made = written(bench, [*TEXTS[:3], "Bread is baked. " * 9, "Мы купили хлеб и молоко в магазине рядом с домом."])
    rows = read_labels(judge_completions(bench, made, wildguard))
    assert [row.outcome for row in rows] == ["refusal"] * 3 + ["degenerate", "refusal"]
    assert [row.harmful for row in rows] == [False] * 3 + [None, False]
    assert [row.off_language for row in rows] == [False] * 4 + [True]
    assert rows[4].lang == "ru"
    assert {row.judge for row in rows} == {"wildguard"}
    assert [row.prompt_id for row in rows] == [row.prompt_id for row in read_completions(made)]


def test_the_judge_sees_each_prompt_with_its_own_completion(
    bench: Workbench, wildguard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written(bench, TEXTS)
    seen: list[Item] = []
    judge: Any = bench.judge(wildguard)
    monkeypatch.setattr(
        judge,
        "judge_all",
        lambda items, _done: ((seen.append(x), (i, Verdict("refusal", "r")))[1] for i, x in enumerate(items)),
    )
    judge_completions(bench, made, wildguard)
    prompts = {p.id: p.text for p in read_prompts(bench.store.open("prompts", made.inputs["prompts"]))}
    assert [x.prompt for x in seen] == [prompts[row.prompt_id] for row in read_completions(made)]
    assert [x.response for x in seen] == TEXTS


def test_an_interrupted_judging_goes_on_where_it_stopped(
    bench: Workbench, wildguard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written(bench, TEXTS)
    judge: Any = bench.judge(wildguard)
    generate, calls = judge._generate, []

    def failing(rows: Any, prefix: Any) -> Any:
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(len(rows))
        return generate(rows, prefix)

    monkeypatch.setattr(judge, "_generate", failing)
    with pytest.raises(KeyboardInterrupt):
        judge_completions(bench, made, wildguard)
    fresh = Workbench(bench.store, Machine(bench.machine.model, device="cpu", batch_size=2))
    again: Any = fresh.judge(wildguard)
    sizes: list[int] = []
    monkeypatch.setattr(
        again, "_generate", lambda rows, p: sizes.append(len(rows)) or type(again)._generate(again, rows, p)
    )
    done = judge_completions(fresh, made, wildguard)
    assert fresh.store.run_info(done)["checks"]["resumed"] == 2
    assert sizes == [2, 1]
    whole = Workbench(
        Store(bench.store.root.parent / "other"), Machine(bench.machine.model, device="cpu", batch_size=2)
    )
    assert judge_completions(whole, written(whole, TEXTS), wildguard).id == done.id


def test_never_two_models_in_memory(bench: Workbench, wildguard: str, tmp_path: Path) -> None:
    guard = f"llama-guard-3={tiny.generative(tmp_path / 'lg', 'llama3', ['safe'])}"
    made = written(bench, TEXTS)
    assert bench.machine in bench.models
    first, second = bench.judge(wildguard), bench.judge(guard)
    judge_completions(bench, made, wildguard)
    assert bench.machine not in bench.models
    assert first._loaded is not None  # type: ignore[attr-defined]
    judge_completions(bench, made, guard, harm_only=True)
    assert first._loaded is None  # type: ignore[attr-defined]
    assert second._loaded is not None  # type: ignore[attr-defined]
    assert bench.model is not None  # loading the model under study makes room as well
    assert second._loaded is None  # type: ignore[attr-defined]


def test_a_harm_judge_never_says_compliance_and_cannot_measure_refusal(bench: Workbench, tmp_path: Path) -> None:
    guard = f"llama-guard-3={tiny.generative(tmp_path / 'lg', 'llama3', ['unsafe' + chr(10), 'S2'])}"
    made = written(bench, TEXTS)
    with pytest.raises(BadInput, match="gives no refusal label"):
        judge_completions(bench, made, guard)
    rows = read_labels(judge_completions(bench, made, guard, harm_only=True))
    assert {(row.outcome, row.harmful, row.reason) for row in rows} == {
        ("unparsed", True, "this judge gives no refusal label")
    }


def test_completions_without_prompts_can_be_judged_by_the_response_alone(bench: Workbench, wildguard: str) -> None:
    made = written(bench, TEXTS)
    recipe = {**made.manifest["recipe"], "inputs": {}}
    with bench.store.draft() as out:
        formats.write_rows(out / COMPLETIONS_FILE, (r.to_json() for r in read_completions(made)))
        alone = bench.store.commit(out, "completions", recipe, made.about, {})
    with pytest.raises(BadInput, match="does not say which prompts it answers"):
        judge_completions(bench, alone, wildguard)
    assert len(read_labels(judge_completions(bench, alone, "substring"))) == 5


def test_completions_of_other_prompts_are_an_error(bench: Workbench, wildguard: str) -> None:
    made = written(bench, TEXTS)
    rows = [r.to_json() | {"prompt_id": f"other-{i}"} for i, r in enumerate(read_completions(made))]
    with bench.store.draft() as out:
        formats.write_rows(out / COMPLETIONS_FILE, rows)
        other = bench.store.commit(out, "completions", made.manifest["recipe"] | {"step": "t2"}, made.about, {})
    with pytest.raises(BadInput, match=r"5 of 5 completions answer no prompt .*'other-0'"):
        judge_completions(bench, other, wildguard)


def test_a_language_that_the_judge_does_not_list_is_a_note(bench: Workbench, wildguard: str) -> None:
    judge_completions(bench, written(bench, lang="ba"), wildguard)
    assert any("was not made for 'ba'" in note for note in bench.notes)


def test_an_unknown_judge_and_a_model_for_a_judge_without_one(bench: Workbench) -> None:
    made = written(bench)
    with pytest.raises(BadInput, match="there is no judge 'oracle'"):
        judge_completions(bench, made, "oracle")
    with pytest.raises(BadInput, match="has no model to choose"):
        judge_completions(bench, made, "substring=x")
    with pytest.raises(ModelError, match="no model 'nowhere'"):
        judge_completions(bench, made, "wildguard=nowhere")


def test_labels_of_the_first_version_still_read() -> None:
    old = {"prompt_id": "a", "outcome": "refusal", "judge": "substring", "reason": "phrase:en", "truncated": True}
    row = Label.from_json(old | {"cluster": "c"})
    assert (row.harmful, row.off_language, row.lang, row.input_cut) == (None, None, None, False)
