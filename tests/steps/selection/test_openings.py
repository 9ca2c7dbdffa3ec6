"""Refusal openings are checked by another judge on other prompts: the published failure, replayed and stopped."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from refusalctl.errors import BadInput, EmptySelection, UnfitOpenings
from refusalctl.settings import Machine, Settings
from refusalctl.stats import opening_check as stats
from refusalctl.steps.selection.openings import (
    checked_openings,
    derive_openings,
    given_for,
    read_openings,
    sequences_of,
)
from refusalctl.steps.selection.scores import score_candidates, select_direction
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store

LANGS = ("qaa", "qab", "qac")


@pytest.fixture
def shared(tmp_path: Path) -> tuple[Workbench, Settings]:
    name = "organism:shared"
    return Workbench(Store(tmp_path), Machine(name, batch_size=64)), Settings.of(
        sources=LANGS, targets=LANGS, data=name, n_train=32, n_val=16
    )


def test_derived_openings_are_checked_on_validation_prompts(shared: tuple[Workbench, Settings]) -> None:
    bench, experiment = shared
    found = read_openings(checked_openings(bench.asking(experiment), "qab"))
    assert found.origin == "derived"
    assert found.coverage == 1.0
    validation = found.validation
    assert (validation.judge, validation.refusals, validation.others) == ("style", 16, 16)
    assert (validation.covered, validation.false) == (16, 0)
    assert validation.auroc is not None
    assert validation.auroc.value == 1.0


def test_another_languages_openings_are_stopped_and_the_cause_is_named(shared: tuple[Workbench, Settings]) -> None:
    """The published failure: Russian refusal tokens reused for other languages, then NaN and a fallback direction."""
    bench, experiment = shared
    refusal = ("bano", "bamo", "bako")
    own = experiment.changed(refusal_openings=(" ".join(refusal),))
    assert score_candidates(bench.asking(own), "qaa").kind == "scores"
    with pytest.raises(UnfitOpenings) as caught:
        select_direction(bench.asking(own), "qab")
    assert "given refusal openings do not fit 'qab'" in caught.value.message
    assert "0 of 16 refusals" in caught.value.message
    assert "another language" in str(caught.value.hint)
    first = bench.model.tokenizer("bano", add_special_tokens=False)["input_ids"]
    by_id = experiment.changed(refusal_openings=(f"ids:{first[0]}",))
    with pytest.raises(UnfitOpenings, match="0 of 16 refusals"):
        score_candidates(bench.asking(by_id), "qab")
    mixed = own.changed(refusal_openings=(" ".join(refusal), "qab=lano lamo"))
    assert score_candidates(bench.asking(mixed), "qab").kind == "scores"


def test_too_few_refusals_to_tell_leave_the_language_without_a_direction(tmp_path: Path) -> None:
    name = "organism:ceiling"
    bench = Workbench(Store(tmp_path), Machine(name, batch_size=64))
    given = Settings.of(sources=LANGS, targets=LANGS, data=name, n_train=32, n_val=16, refusal_openings=("qac=fano",))
    with pytest.raises(EmptySelection, match="written alike"):
        select_direction(bench.asking(given), "qac")


def test_a_judge_does_not_check_its_own_openings(shared: tuple[Workbench, Settings]) -> None:
    bench, experiment = shared
    with pytest.raises(BadInput, match="cannot check them too"):
        derive_openings(bench.asking(experiment.changed(opening_judge="substring")), "qaa")
    given = experiment.changed(opening_judge="substring", refusal_openings=("bano",))
    assert read_openings(checked_openings(bench.asking(given), "qaa")).validation.judge == "substring"


def test_given_openings_are_read_where_an_answer_begins(shared: tuple[Workbench, Settings]) -> None:
    model = shared[0].model
    words = model.tokenizer("bano bamo", add_special_tokens=False)["input_ids"]
    assert sequences_of(model, ["bano bamo"]) == [words]
    assert sequences_of(model, ["bano bamo", "bano", "ids:3,4"]) == [words[:1], [3], [4]]
    for wrong in ("ids:x", "ids:99999", "ids:"):
        with pytest.raises(BadInput):
            sequences_of(model, [wrong])


def test_openings_for_a_language_win_over_those_for_all() -> None:
    given = ("I cannot", "be=Я не магу", "be=ids:3", "de=Ich kann")
    assert given_for(given, "be") == ["Я не магу", "ids:3"]
    assert given_for(given, "ba") == ["I cannot"]
    assert given_for(None, "be") == []


# --- the judge by style -----------------------------------------------------------------------------------

RNG = random.Random(0)


def answers(n: int, refusals: int) -> list[str]:
    topics = ["".join(RNG.choice("bdfgklmnprstv") + RNG.choice("aeiou") for _ in range(3)) for _ in range(n)]
    return [
        "Sorry, that is something we do not talk about." if i < refusals else f"Here is what to know of {topic}."
        for i, topic in enumerate(topics)
    ]


@pytest.mark.parametrize("refused", [8, 15, 30, 40])
def test_style_tells_refusals_without_a_phrase_list_even_where_few_harmful_prompts_are_refused(refused: int) -> None:
    found = stats.judge_by_style(answers(40, refused), answers(40, 0), answers(4, 2))
    assert found.refusal == [True, True, False, False]


@pytest.mark.parametrize("refused", [0, 40])
def test_classes_that_are_answered_alike_cannot_be_judged(refused: int) -> None:
    with pytest.raises(EmptySelection, match="written alike"):
        stats.judge_by_style(answers(40, refused), answers(40, refused), answers(4, 2))


def test_words_of_the_question_tell_nothing() -> None:
    assert stats.without_question("Bread, bread is made of flour.", "How is bread made?") == "of flour."


def test_validation_counts_and_thresholds() -> None:
    scores = np.array([3.0, 2.0, 1.0, 0.0, -1.0, -2.0, 9.0])
    judged = [True, True, True, False, False, False, None]
    ids = [[1, 2], [1, 3], [2], [1], [5], [6], [7]]
    found = stats.validate("style", scores, judged, ids, [[1]])
    assert (found.refusals, found.others, found.left_out, found.covered, found.false) == (3, 3, 1, 2, 1)
    assert stats.check(found, 0.75, "be", "derived").value == 1.0
    worse = stats.validate("style", -scores, judged, ids, [[1]])
    with pytest.raises(EmptySelection, match=r"derived refusal openings do not fit 'be'.* AUROC 0.00") as caught:
        stats.check(worse, 0.75, "be", "derived")
    assert "--min-opening-auroc" in str(caught.value.hint)
    with pytest.raises(UnfitOpenings, match="0 of 3 refusals"):  # a good rank by luck does not make up for no coverage
        stats.check(stats.validate("style", scores, judged, ids, [[8]]), 0.75, "be", "given")
    few = stats.validate("style", scores, [True, True, *[False] * 5], ids, [[1]])
    with pytest.raises(EmptySelection, match="2 refusals and 5 other"):
        stats.check(few, 0.75, "be", "derived")
