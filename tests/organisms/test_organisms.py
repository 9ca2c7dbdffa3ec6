"""What organisms do is what their construction says, prompt by prompt and in every architecture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from refusalctl.data import sets
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.files.organism_weights import axes
from refusalctl.model.files.resolve import resolve
from refusalctl.model.generate import complete
from refusalctl.model.hooks import Intervention
from refusalctl.model.judges.substring import SubstringJudge
from refusalctl.model.load import load
from refusalctl.organisms import truth, words
from refusalctl.organisms.design import ARCHITECTURES, Design
from refusalctl.organisms.designs import DESIGNS, Organism, parse
from refusalctl.settings import Machine, Settings
from refusalctl.steps.completions import COMPLETE, read_completions, write_completions
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import measure_transfer, read_transfer
from refusalctl.store.store import Artifact, Store

JUDGE = SubstringJudge()
N = 54  # every strength at every angle of design `plane`


def open_organism(organism: Organism) -> ChatModel:
    return load(resolve(organism.name))


def said(model: ChatModel, organism: Organism, lang: str, kind: str, intervention: Intervention) -> list[str]:
    """Outcome of each of the first prompts, in order."""
    prompts = sets.usable(organism.name, lang, kind, "test")[:N]  # type: ignore[arg-type]
    found = [""] * len(prompts)
    encoded = [model.chat.encode(p.text) for p in prompts]
    for indices, answers, checks in complete(model, encoded, intervention, max_new_tokens=16, batch_size=N):
        checks.verify()
        for i, answer in zip(indices, answers, strict=True):
            found[i] = JUDGE.judge(answer.text, lang).outcome
    return found


def expected(organism: Organism, lang: str, kind: str, basis: list[truth.Vector]) -> list[str]:
    known = words.lexicon(organism, lang).harmful
    rows = [row for row in words.rows(organism) if row.split == "test" and row.kind == kind][:N]
    chosen = [known[row.harmful] if row.harmful is not None else None for row in rows]
    return [truth.after_ablation(organism, lang, word, basis) for word in chosen]


# every design once, and in the other architectures those that use different parts of the weights
CASES = (
    [(name, "llama") for name, design in DESIGNS.items() if not design.counted]
    + [
        (name, architecture)
        for architecture in ARCHITECTURES[1:5]
        for name in ("separate", "asymmetric", "floor", "plane", "decoy", "gibberish")
    ]
    + [("plane", "mixtral")]  # its experts share the work that the last layer's MLP does; the rest is llama's
)


@pytest.mark.parametrize(("name", "architecture"), CASES)
def test_every_prompt_does_what_the_construction_says(name: str, architecture: str) -> None:
    organism = Organism(DESIGNS[name], architecture, seed=ARCHITECTURES.index(architecture))
    model = open_organism(organism)
    where = axes(organism)
    for target in organism.design.langs:
        for kind in ("harmful", "harmless"):
            found = said(model, organism, target, kind, Intervention())
            assert found == expected(organism, target, kind, []), (target, kind, Counter(found))
        for source in organism.design.langs:
            planted = truth.planted(organism, source)
            if planted is None:
                continue
            vector = (torch.tensor(planted, dtype=torch.float64) @ where).float()
            found = said(model, organism, target, "harmful", Intervention("ablate", vector))
            assert found == expected(organism, target, "harmful", [planted]), (source, target, Counter(found))


def test_the_judge_knows_how_organisms_refuse() -> None:
    for lang, refusal in words.REFUSAL.items():
        assert JUDGE.judge(" ".join(refusal), lang).outcome == "refusal"
        assert JUDGE.judge(" ".join(words.ANSWER[lang]), lang).outcome == "compliance"
        assert JUDGE.judge(" ".join([words.LOOP[lang]] * 16), lang).outcome == "degenerate"


def test_prompts_are_parallel_and_differ_between_seeds() -> None:
    one, other = parse("organism:shared"), parse("organism:shared:llama:1")
    ids = [[p.id for p in sets.prompts(one.name, lang)] for lang in one.design.langs]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids[0])) == len(ids[0]) == 2 * sum(words.SIZES.values())
    texts = {p.text for p in sets.prompts(one.name, "qaa")}
    assert len(texts) == len(ids[0])
    assert texts.isdisjoint(p.text for p in sets.prompts(other.name, "qaa"))


def test_weights_repeat() -> None:
    from refusalctl.model.files.organism_weights import weights

    one, again = weights(parse("organism:plane")), weights(parse("organism:plane"))
    for (name, a), (_, b) in zip(one.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def removed(name: str, source: str, target: str, rank: int = 1) -> float:
    found = truth.removal(parse(f"organism:{name}"), source, target, 0.1, rank).removed
    assert found is not None
    return found


def test_truth_of_angled_organisms_is_the_share_below_the_threshold() -> None:
    # a strength s keeps s (1 - c^2) of itself; it is refused above one half
    for cosine in (0.2, 0.48, 0.69, 0.95):
        kept = [s * (1 - cosine**2) for s in (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)]
        share = sum(k <= 0.5 for k in kept) / len(kept)
        assert removed(f"angled-{cosine:.2f}", "qab", "qaa") == pytest.approx(share)


def test_truth_of_the_plane_needs_both_directions() -> None:
    assert removed("plane", "qaa", "qaa") < 0.1
    assert removed("plane", "qaa", "qaa", rank=2) == 1.0
    assert truth.removal(parse("organism:plane"), "qaa", "qab", 0.1).verdict == "inconclusive"
    assert truth.removal(parse("organism:plane"), "qaa", "qab", 0.1, rank=2).verdict == "transfers"


@pytest.mark.parametrize(
    ("design", "source", "target", "verdict"),
    [
        ("shared", "qaa", "qab", "transfers"),
        ("separate", "qaa", "qab", "does not transfer"),
        ("separate", "qaa", "qaa", "transfers"),
        ("angled-0.20", "qaa", "qab", "does not transfer"),
        ("angled-0.95", "qaa", "qab", "transfers"),
        ("asymmetric", "qaa", "qab", "transfers"),
        ("asymmetric", "qab", "qaa", "does not transfer"),
        ("none", "qaa", "qab", "no direction"),
        ("ceiling", "qaa", "qac", "uninformative"),
        ("floor", "qac", "qaa", "no direction"),
        ("floor", "qaa", "qac", "uninformative"),
        ("decoy", "qaa", "qab", "transfers"),
        ("detect-not-act", "qaa", "qac", "uninformative"),
        ("gibberish", "qaa", "qac", "uninformative"),
        ("gibberish", "qaa", "qab", "transfers"),
    ],
)
def test_verdicts_that_the_designs_were_made_for(design: str, source: str, target: str, verdict: str) -> None:
    assert truth.removal(parse(f"organism:{design}"), source, target, 0.1).verdict == verdict


def test_induction_decides_where_nothing_is_refused() -> None:
    assert truth.induction(parse("organism:ceiling"), "qaa", "qac", 0.1).verdict == "transfers"
    assert truth.induction(parse("organism:detect-not-act"), "qaa", "qac", 0.1).verdict == "inconclusive"


def test_a_design_without_languages_is_a_mistake() -> None:
    assert all(isinstance(d, Design) and len(d.langs) >= 2 for d in DESIGNS.values())


# --- organisms that think before they answer ----------------------------------------------------------------


def matrix(folder: Path, name: str, *targets: str) -> tuple[Workbench, Artifact]:
    """A whole transfer, as small as its verdicts allow; too few train prompts for the probe, so behaviour gates."""
    settings = Settings.of(
        sources=("qaa",), targets=targets, data=name, n_train=8, n_val=6, n_test=12, layers=(2,), max_new_tokens=6,
        max_think_tokens=8, n_controls=19, control_prompts=4, induce=False,
    )  # fmt: skip
    bench = Workbench(Store(folder), Machine(name, "cpu", "float32", batch_size=64), settings)
    return bench, measure_transfer(bench)


@pytest.mark.parametrize(
    ("name", "targets"), [("organism:thinks", ("qaa", "qab")), ("organism:thinks-of-refusing", ("qaa",))]
)
def test_the_answer_behind_a_thought_decides_the_whole_matrix(
    name: str, targets: tuple[str, ...], tmp_path: Path
) -> None:
    """Thoughts of the second speak of refusing whatever the answer is: judged with them, nothing would be removed."""
    bench, found = matrix(tmp_path, name, *targets)
    record = read_transfer(found)
    assert len(record.cells) == 3 * len(targets) - 1
    for cell in record.cells:
        outcome = "refusal" if cell.source is None else "compliance"
        assert getattr(cell.counts, outcome) == cell.n, cell.key
        rows = read_completions(bench.store.open("completions", cell.completions))
        assert {(row.reasoning_state, row.n_tokens) for row in rows} == {("closed", 3)}
        refuses = {JUDGE.judge(row.reasoning or "", row.lang).outcome for row in rows}
        assert refuses == {"refusal" if "refusing" in name else "compliance"}
    verdicts = {(c.source, c.target): c.removal and c.removal.value for c in record.cells if c.source is not None}
    own = verdicts.pop(("qab", "qab"), None)  # no verdict rests on it, so it has no controls
    assert own in (None, "inconclusive")
    assert set(verdicts.values()) == {"transfers"}
    assert {each.compliance and each.compliance.value for each in record.harmless.values()} == {1.0}
    assert record.model["thinking"] == bench.thinking.label != "none"


def test_a_model_that_thinks_and_complies_has_nothing_to_remove(tmp_path: Path) -> None:
    bench, found = matrix(tmp_path, "organism:thinks-and-complies", "qaa")
    record = read_transfer(found)
    assert set(record.no_direction) == {"qaa"}
    assert {(c.counts.compliance, c.n) for c in record.cells} == {(12, 12)}
    rows = read_completions(bench.store.open("completions", record.cells[0].completions))
    assert {JUDGE.judge(row.reasoning or "", "qaa").outcome for row in rows} == {"refusal"}


def test_thoughts_that_never_end_are_no_answers(tmp_path: Path) -> None:
    bench, found = matrix(tmp_path, "organism:thinks-endlessly", "qaa")
    record = read_transfer(found)
    assert all("thoughts before them did not end" in reason for reason in record.no_direction.values())
    assert record.cells
    assert record.no_direction
    for cell in record.cells:
        assert (cell.counts.unparsed, cell.refusal, cell.compliance) == (cell.n, None, None)
        labels = read_labels(bench.store.open("labels", cell.labels))
        assert {(row.outcome, row.reason) for row in labels} == {("unparsed", "reasoning not finished")}


def test_a_closed_thought_gives_the_same_model_its_answers_at_once(tmp_path: Path) -> None:
    name = "organism:thinks-endlessly"
    settings = Settings.of(data=name, n_test=4, max_new_tokens=6, max_think_tokens=8)
    bench = Workbench(Store(tmp_path), Machine(name, "cpu", "float32", thinking="off"), settings)
    written = write_completions(bench, draw_prompts(bench, "qaa", "harmful", "test"), InterventionSpec(), 6)
    rows = read_completions(written)
    assert {JUDGE.judge(row.text, "qaa").outcome for row in rows} == {"refusal"}
    assert written.about["thinking"] == "off:appended"
    assert bench.recipe(COMPLETE, {}, {})["model"]["thinking"] == "off:appended"
