"""The chain of steps: against plain calculations on a tiny model, and end to end on the embedded chat model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from refusalctl.data import sets
from refusalctl.errors import EmptySelection
from refusalctl.model.files import embedded
from refusalctl.model.files.resolve import resolve
from refusalctl.model.hooks import Intervention, intervene
from refusalctl.model.load import load
from refusalctl.records.rows import KINDS
from refusalctl.settings import Machine, Settings
from refusalctl.stats.rates import outcome_rate
from refusalctl.steps.completions import read_completions, write_completions
from refusalctl.steps.directions import DIRECTIONS_FILE, SPLIT_SEED, extract_directions, reliability_at
from refusalctl.steps.interventions import SELECTION_FILE, InterventionSpec
from refusalctl.steps.labelling.labels import judge_completions, read_labels
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection import openings
from refusalctl.steps.selection.openings import read_openings
from refusalctl.steps.selection.scores import read_scores, score_candidates, select_direction
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import measure_transfer, read_transfer
from refusalctl.store import formats
from refusalctl.store.store import Store

pytestmark = pytest.mark.xdist_group("pipeline")  # one worker makes what these tests share


@pytest.fixture
def bench(tmp_path: Path, tiny_folder: Path) -> Workbench:
    return Workbench(Store(tmp_path / "store"), Machine(str(tiny_folder), device="cpu", batch_size=3))


def test_candidates_equal_a_plain_difference_of_means(bench: Workbench) -> None:
    experiment = Settings.of(n_train=5)
    found = extract_directions(bench.asking(experiment), "be")
    tensors, header = formats.read_vectors(found.path / DIRECTIONS_FILE, "directions")
    model = bench.model
    means = {}
    for kind in KINDS:
        ids = sets.draw("sample", ["be"], kind, "train", 5, 0)
        states = []
        for prompt in sets.pick("sample", "be", ids):
            out = model.model(torch.tensor([model.chat.encode(prompt.text)]), output_hidden_states=True)
            states.append(torch.stack([h[0, header["positions"]] for h in out.hidden_states[:-1]], dim=1).double())
        means[kind] = torch.stack(states).mean(0)
    expected = (means["harmful"] - means["harmless"]).float()
    torch.testing.assert_close(tensors["candidates"], expected, atol=1e-4, rtol=1e-4)


def test_reliability_is_the_cosine_between_halves_of_the_train_prompts(bench: Workbench) -> None:
    import numpy as np

    from refusalctl.stats.similarity import halves
    from refusalctl.steps.activations import ACTIVATIONS_FILE

    found = extract_directions(bench.asking(Settings.of(n_train=8)), "be")
    tensors, header = formats.read_vectors(found.path / DIRECTIONS_FILE, "directions")
    rows, ids = {}, []
    for kind in KINDS:
        source = bench.store.open("activations", found.inputs[kind])
        with formats.open_activations(source.path / ACTIVATIONS_FILE) as (data, head):
            rows[kind] = torch.tensor(data[:, 1, 2]).double()
            ids.append(head["prompt_ids"])
    splits = halves(ids, header["splits"], np.random.default_rng(SPLIT_SEED))
    each = []
    for signs in splits.signs:
        a, b = (
            sum(
                sign * rows[k][torch.tensor(signs[i * 8 : i * 8 + 8]) == half].mean(0)
                for i, (k, sign) in enumerate((("harmful", 1), ("harmless", -1)))
            )
            for half in (1, -1)
        )
        each.append(float(torch.nn.functional.cosine_similarity(a, b, dim=0)))  # type: ignore[arg-type]
    half = float(np.mean(each))
    pos = header["positions"][1]
    told = reliability_at(found, pos, 2)
    assert told.half == pytest.approx(half, abs=1e-5)
    if half > 0:
        assert told.ceiling == pytest.approx((2 * half / (1 + half)) ** 0.5, abs=1e-5)
    assert reliability_at(found, header["positions"][0], 0).half is None  # the same token everywhere
    assert tensors["split_half"].shape == tensors["candidates"].shape[:2]


def test_a_direction_knows_the_activations_it_came_from(bench: Workbench) -> None:
    found = extract_directions(bench.asking(Settings.of(n_train=4)), "ba")
    for kind in KINDS:
        source = bench.store.open("activations", found.inputs[kind])
        assert (source.about["lang"], source.about["kind"], source.about["split"]) == ("ba", kind, "train")
        rows = read_prompts(bench.store.open("prompts", source.inputs["prompts"]))
        assert {row.lang for row in rows} == {"ba"}
        assert {row.kind for row in rows} == {kind}


def test_languages_of_an_experiment_share_their_prompt_ids(bench: Workbench) -> None:
    experiment = Settings.of(n_test=7)
    ids = [
        [row.id for row in read_prompts(draw_prompts(bench.asking(experiment), lang, "harmful", "test"))]
        for lang in ("en", "ba")
    ]
    assert ids[0] == ids[1]


def test_silence_is_not_compliance(bench: Workbench) -> None:
    """Answers that end before they begin are counted, as degenerate, and raise no compliance rate."""
    bench.model.__dict__["eos_ids"] = list(range(len(bench.model.tokenizer)))  # whatever is written first ends it
    prompts = draw_prompts(bench.asking(Settings.of(n_test=4)), "en", "harmful", "test")
    written = write_completions(bench, prompts, InterventionSpec(), 2)
    assert [row.text for row in read_completions(written)] == [""] * 4
    labels = read_labels(judge_completions(bench, written, "substring"))
    assert [(label.outcome, label.reason) for label in labels] == [("degenerate", "empty")] * 4
    compliance = outcome_rate([label.outcome for label in labels], "compliance")
    assert (compliance.count, compliance.n) == (0, 4)


# --- a constructed model, end to end ------------------------------------------------------------------------


ORGANISM = "organism:shared"
CHAIN = Settings.of(
    sources=("qab",),
    targets=("qaa",),
    data=ORGANISM,
    n_train=16,
    n_val=8,
    n_test=12,
    layers=(2, 3),
    max_new_tokens=6,
    controls=False,
)


def test_the_chain_pairs_its_conditions_and_is_not_computed_again(tmp_path: Path) -> None:
    first = Workbench(Store(tmp_path), Machine(ORGANISM, device="cpu", batch_size=32))
    matrix = measure_transfer(first.asking(CHAIN))
    record = read_transfer(matrix)
    cells = {(c.source, c.target): c for c in record.cells if c.condition != "induced"}
    assert set(cells) == {(None, "qaa"), ("qaa", "qaa"), ("qab", "qaa")}
    assert cells[None, "qaa"].counts.refusal >= 6
    moved = cells["qab", "qaa"].flips
    assert moved is not None
    assert 0 < moved.removed <= cells[None, "qaa"].counts.refusal
    for cell in record.cells:
        labels = first.store.open("labels", cell.labels)
        assert labels.about["lang"] == cell.target
        if cell.source:
            written = first.store.open("completions", cell.completions)
            assert written.about["direction_lang"] == cell.source
            checks = first.store.run_info(written)["checks"]
            assert checks["hooks_fired"] > 0
            if cell.condition != "induced":  # ablated, so nothing of the direction may be left
                assert checks["max_relative_projection"] < 1e-4
    again = Workbench(first.store, Machine(ORGANISM, device="cpu", batch_size=32))
    assert measure_transfer(again.asking(CHAIN)).id == matrix.id
    assert all(line.done for line in again.plan)
    assert not again.models  # nothing was loaded


# --- the embedded model: real weights, real refusals ------------------------------------------------------


@pytest.fixture(scope="module")
def refuser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openings, "MAX_NEW_TOKENS", 8)  # enough for its refusals
        machine = Machine(embedded.REFUSER, device="cpu", batch_size=16)
        yield Workbench(Store(tmp_path_factory.mktemp("refuser")), machine)


# English answers are short, and the model refuses there
SMALL = Settings.of(
    refusal_openings=("I can't", "I cannot", "Sorry"),
    opening_judge="substring",
    n_train=4,
    n_val=4,
    positions=(-1,),
    layers=(18, 22),
    max_kl=9.0,
    min_induce=-99.0,
)


def test_refusals_of_the_embedded_model_fall_under_its_direction(refuser: Workbench) -> None:
    bench = refuser.asking(SMALL)
    chosen = select_direction(bench, "en")
    prompts = draw_prompts(bench, "en", "harmful", "val")
    outcomes = []
    for asked in (InterventionSpec(), InterventionSpec("ablate", chosen)):  # the first was written for the openings
        written = write_completions(bench, prompts, asked, openings.MAX_NEW_TOKENS)
        rows = read_labels(judge_completions(bench, written, "substring"))
        outcomes.append({row.prompt_id: row.outcome for row in rows})
    checks = refuser.store.run_info(written)["checks"]
    assert checks["hooks_fired"] > 0
    assert checks["max_relative_projection"] < 1e-4
    before, after = ([*each.values()].count("refusal") for each in outcomes)
    assert before >= 3
    assert after < before


def test_scores_equal_a_plain_calculation(refuser: Workbench) -> None:
    """Bypass, induce and KL of one candidate, prompt by prompt, without batches, padding or cache."""
    scored = score_candidates(refuser.asking(SMALL), "en")
    table = read_scores(scored)
    row = table.candidates[0]
    assert row.per_prompt is not None
    assert row.per_prompt.bypass is not None
    assert row.per_prompt.induce is not None
    assert row.per_prompt.kl is not None
    assert table.validation is not None
    opening = refuser.store.open("openings", scored.inputs["openings"])
    sequences = [list(each) for each in read_openings(opening).sequences]
    tensors, header = formats.read_vectors(
        refuser.store.open("directions", scored.inputs["directions"]).path / DIRECTIONS_FILE, "directions"
    )
    vector = tensors["candidates"][header["positions"].index(row.pos), row.layer]
    model = refuser.model

    def logodds(text: str, intervention: Intervention) -> float:
        prompt, p = model.chat.encode(text), 0.0
        for opening_ids in sequences:
            with intervene(model.residual, intervention):
                logits = model.model(torch.tensor([prompt + opening_ids])).logits[0].double().log_softmax(-1)
            p += float(sum(logits[len(prompt) - 1 + k, t] for k, t in enumerate(opening_ids)).exp())  # type: ignore[union-attr]
        return float(torch.logit(torch.tensor(p, dtype=torch.float64)))

    val = {k: read_prompts(refuser.store.open("prompts", scored.inputs[f"val_{k}"])) for k in KINDS}
    first_harmful = val["harmful"][table.validation.kept.harmful[0]].text
    first_harmless = val["harmless"][table.validation.kept.harmless[0]].text
    ablation = Intervention("ablate", vector, row.layer)
    assert row.per_prompt.bypass[0] == pytest.approx(logodds(first_harmful, ablation), abs=0.02)
    addition = Intervention("add", vector, row.layer)
    assert row.per_prompt.induce[0] == pytest.approx(logodds(first_harmless, addition), abs=0.02)
    ids = torch.tensor([model.chat.encode(first_harmless)])
    before = model.model(ids).logits[0, -1].double().softmax(-1)
    with intervene(model.residual, ablation):
        after = model.model(ids).logits[0, -1].double().softmax(-1)
    assert row.per_prompt.kl[0] == pytest.approx(float((before * (before / after).log()).sum()), abs=1e-3)


def test_a_selection_keeps_the_mean_harmless_activation_of_its_own_position_and_layer(refuser: Workbench) -> None:
    selection = select_direction(refuser.asking(SMALL), "en")
    tensors, header = formats.read_vectors(selection.path / SELECTION_FILE, "selection")
    source = refuser.store.open("directions", selection.inputs["directions"])
    theirs, places = formats.read_vectors(source.path / DIRECTIONS_FILE, "directions")
    at = (places["positions"].index(header["pos"]), header["layer"])
    assert torch.equal(tensors["mean_harmless"], theirs["mean_harmless"][at])
    assert torch.equal(tensors["direction"], theirs["candidates"][at])


def test_another_rule_needs_no_model_and_an_impossible_one_says_what_would_help(refuser: Workbench) -> None:

    select_direction(refuser.asking(SMALL), "en")  # scored once; whichever worker runs this test
    fresh = Workbench(refuser.store, Machine(embedded.REFUSER, device="cpu", batch_size=16))
    with pytest.raises(EmptySelection, match=r"none of 2 candidates passes .* the best would pass with --max-kl"):
        select_direction(fresh.asking(SMALL.changed(max_kl=-1.0)), "en")
    assert not fresh.models
    assert refuser.models  # so that the line above can fail


@pytest.mark.parametrize("name", embedded.ADAPTED)
def test_the_plain_model_is_the_refuser_without_its_adapter(name: str) -> None:
    base, refuser = (load(resolve(each), device="cpu") for each in (embedded.BASE, name))
    changed = {
        name.rsplit(".", 2)[-2]
        for (name, a), (_, b) in zip(base.model.named_parameters(), refuser.model.named_parameters())
        if not torch.equal(a, b)
    }
    assert changed == {"q_proj", "v_proj", "o_proj", "up_proj", "down_proj"}
