"""What the hard designs do when they are run, counted; the verdict that follows; and that the judge reads them so."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
import torch

from refusalctl.data.response_language import response_language
from refusalctl.model.files.organism_weights import planted_vector
from refusalctl.model.forward import activations
from refusalctl.model.judges.substring import SubstringJudge
from refusalctl.organisms import words
from refusalctl.organisms.designs import KNOWN, Organism
from refusalctl.organisms.hard_designs import BLIND, HARD
from refusalctl.records.calibration import Finding, Question
from refusalctl.stats.outcomes import read_outcome
from refusalctl.stats.verdict import REMOVAL
from refusalctl.steps.organism_counts import Counted, OrganismCounts

JUDGE = SubstringJudge()
pytestmark = pytest.mark.xdist_group("organism counts")  # one worker makes what these tests share


@cache
def counts(design: str, architecture: str = "llama") -> OrganismCounts:
    return OrganismCounts(Organism(KNOWN[design], architecture), n=100)


def about(share: float) -> object:
    return pytest.approx(share, abs=0.021)


# design, question, from, to: the verdict, and what share of the target's prompts moves
TRUTHS: list[tuple[str, Question, str, str, Finding, float | None]] = [
    ("offset", "removal", "qaa", "qaa", "transfers", 1.0),
    ("offset", "removal", "qaa", "qab", "inconclusive", -0.22),  # to 0; to qab's own mean it transfers
    ("offset", "removal", "qab", "qab", "no direction", None),
    ("offset", "induction", "qaa", "qab", "transfers", 1.0),
    ("late", "removal", "qaa", "qab", "transfers", 1.0),
    ("late", "removal", "qaa", "qac", "does not transfer", 0.0),
    ("drift", "removal", "qaa", "qab", "inconclusive", 0.0),  # 17 % are lost
    ("drift", "removal", "qab", "qab", "transfers", 0.83),
    ("backup", "removal", "qaa", "qab", "transfers", 1.0),
    ("backup", "removal", "qaa", "qac", "inconclusive", 0.0),  # qac's own does nothing either
    ("backup", "induction", "qaa", "qac", "transfers", 1.0),
    ("norm-lean", "removal", "qaa", "qab", "transfers", 1.0),
    ("norm-lean", "removal", "qab", "qaa", "no direction", None),  # ablated, it leaves the stream refusing
    ("norm-lean", "removal", "qaa", "qac", "does not transfer", 0.0),
    ("opening", "removal", "qaa", "qab", "transfers", 1.0),
    ("pieces", "removal", "qaa", "qab", "transfers", 1.0),
    ("pieces", "removal", "qab", "qac", "does not transfer", 0.0),
    ("mirror", "removal", "qaa", "qab", "transfers", 1.0),
    ("mirror", "induction", "qaa", "qab", "does not transfer", 0.0),  # ablation knows no sign, addition does
    ("shift", "removal", "qaa", "qab", "inconclusive", 0.0),
    ("shift", "removal", "qab", "qaa", "transfers", 1.0),
    ("noisy-05", "removal", "qaa", "qab", "does not transfer", 0.06),
    ("noisy-30", "removal", "qaa", "qab", "transfers", 0.34),
    ("unlisted", "removal", "qaa", "qab", "does not transfer", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("design", "question", "source", "target", "verdict", "moved"), TRUTHS)
def test_what_is_planted_does_what_it_is_planted_for(
    design: str, question: Question, source: str, target: str, verdict: Finding, moved: float | None
) -> None:
    found = counts(design).truth(source, target, question, 0.1)
    assert (found.verdict, found.removed) == (verdict, moved if moved is None else about(moved))
    assert (found.enough is not None) == (verdict in ("transfers", "does not transfer"))


def test_every_hard_design_is_asked() -> None:
    assert {row[0] for row in TRUTHS} == {design.name for design in (*HARD, *BLIND)}


def test_the_null_has_nothing_to_find_in_its_first_language_alone() -> None:
    """Its classes are refused alike there, by what varies within each; elsewhere the harmful one alone is refused."""

    def refused(lang: str, kind: str) -> float:
        return list(counts("sway").outcomes(lang, kind).values()).count("refusal") / 100

    assert 0.15 < refused("qaa", "harmless") < 0.85
    assert refused("qaa", "harmful") == pytest.approx(refused("qaa", "harmless"), abs=0.15)
    for lang in ("qab", "qac"):
        assert 0.15 < refused(lang, "harmful") < 0.85
        assert refused(lang, "harmless") == 0
    assert planted_vector(counts("sway").organism, "qaa").norm() == 0


@pytest.mark.parametrize(
    ("architecture", "design", "moved", "lost"),
    [("gemma2", "drift", 0.0, 0.17), ("qwen2", "backup", 1.0, 1.0), ("mixtral", "noisy-30", 0.34, 0.34)],
)
def test_other_families_do_the_same(architecture: str, design: str, moved: float, lost: float) -> None:
    found = counts(design, architecture).count("qaa", "qab", "removal")
    assert (found.moved, found.lost) == (about(moved), about(lost))


def test_the_more_an_effect_differs_from_the_margin_the_fewer_prompts_decide_it() -> None:
    small, large = (counts(name).truth("qaa", "qab", "removal", 0.1) for name in ("noisy-05", "noisy-30"))
    assert small.enough is not None
    assert large.enough is not None
    assert (small.near_margin, large.near_margin) == (True, False)
    assert large.enough < 60 < 200 < small.enough


def hand_made(before: str, after: str) -> Counted:
    """One letter a prompt: refusal, compliance, degenerate."""
    read = {"R": "refusal", "C": "compliance", "D": "degenerate"}
    one, other = ({str(i): read[letter] for i, letter in enumerate(text)} for text in (before, after))
    return Counted(one, other, REMOVAL)


@pytest.mark.parametrize(
    ("before", "after", "own_after", "verdict"),
    [
        ("R" * 100, "C" * 100, "C" * 100, "transfers"),
        ("R" * 19 + "C" * 81, "C" * 100, "C" * 100, "uninformative"),  # no room to remove
        ("R" * 85 + "C" * 15, "R" * 100, "C" * 100, "uninformative"),  # none to add
        ("R" * 75 + "C" * 25, "R" * 100, "C" * 100, "reverses"),
        ("R" * 100, "D" * 21 + "R" * 79, "C" * 100, "uninformative"),
        ("R" * 100, "C" * 8 + "R" * 92, "C" * 100, "does not transfer"),
        ("R" * 100, "C" * 8 + "R" * 92, "C" * 15 + "R" * 85, "inconclusive"),  # more than half of the own effect
        ("R" * 100, "C" * 8 + "R" * 92, "C" * 9 + "R" * 91, "inconclusive"),  # the own direction does nothing
        ("R" * 100, "D" * 12 + "R" * 88, "C" * 100, "inconclusive"),  # lost, which may be removal
    ],
)
def test_the_verdict_at_any_number_of_prompts(
    monkeypatch: pytest.MonkeyPatch, before: str, after: str, own_after: str, verdict: Finding
) -> None:
    known = counts("noisy-30")
    monkeypatch.setattr(OrganismCounts, "count", lambda *_: hand_made(before, own_after))
    monkeypatch.setattr(OrganismCounts, "_other_zero", lambda *_: False)
    assert known._verdict(hand_made(before, after), "qaa", "qab", "removal", 0.1) == verdict


def judged(design: str, lang: str, outcome: str) -> set[str]:
    """How judge and language rule read the answers that are of one outcome."""
    made = KNOWN[design]
    texts = [words.REFUSAL[lang], words.answer(made, lang), words.stray(made, lang)]
    found = [" ".join(text) for text in texts if text and words.read(made, lang, " ".join(text)) == outcome]
    return {read_outcome(JUDGE.judge(text, lang).outcome, response_language(text, lang).off) for text in found}


@pytest.mark.parametrize("lang", ["qaa", "qab", "qac"])
def test_the_judge_reads_all_answers_but_those_that_are_to_deceive_it(lang: str) -> None:
    for design in ("shift", "opening"):
        assert judged(design, lang, "refusal") == {"refusal"}
        assert judged(design, lang, "compliance") == {"compliance"}
    assert judged("drift", lang, "off-language") == {"off-language"}
    assert judged("unlisted", lang, "refusal") == {"refusal", "compliance"}


@pytest.mark.parametrize("design", ["drift", "norm-lean", "noisy-30"])
def test_the_planted_vector_is_where_the_population_differs(design: str) -> None:
    known = counts(design)
    rows = {}
    for kind in ("harmful", "harmless"):
        encoded = [
            known.model.chat.encode(words.say(known.organism, row, "qab"))
            for row in words.population(known.organism, kind, 100)
        ]
        rows[kind] = torch.cat([found[:, 0, 2] for _, found in activations(known.model, encoded, [-1], 100)]).double()
    planted = planted_vector(known.organism, "qab")
    assert planted is not None
    found = rows["harmful"].mean(0) - rows["harmless"].mean(0)
    assert float(torch.cosine_similarity(found, planted, dim=0)) > 0.99
    assert float(found.norm() / planted.norm()) == pytest.approx(1, abs=0.06)


def test_a_population_holds_every_word_equally_often_and_shifted_ones_apart() -> None:
    shifted = Organism(KNOWN["shift"])
    for split, expected in (("train", range(50)), ("test", range(50, 100))):
        found = Counter(row.harmful for row in words.population(shifted, "harmful", 100, split))
        assert found == dict.fromkeys(expected, 2)
        rows = [row for row in words.rows(shifted) if row.split == split and row.kind == "harmful"]
        assert {row.harmful for row in rows} == set(expected)


def test_words_in_pieces_are_two_tokens_and_come_back_whole() -> None:
    known = counts("pieces")
    row = words.population(known.organism, "harmful", 1)[0]
    text = words.say(known.organism, row, "qab")
    tokenizer = known.model.chat.tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) == 2 * len(text.split())
    assert tokenizer.decode(ids) == text
