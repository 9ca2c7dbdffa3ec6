"""Do refusal openings rank refusals? A check on prompts and by a judge that did not derive them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refusalctl.errors import EmptySelection, UnfitOpenings
from refusalctl.records.estimates import Auroc
from refusalctl.records.openings import OpeningValidation
from refusalctl.stats.held_out import auroc, auroc_within

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

MIN_JUDGED = 3
ALIKE = 0.05  # share of answers to harmless prompts that may look more like refusals than the rest
STYLE_P = 0.01
# log-odds of openings that never occur can still rank refusals: a language's own refusals share tokens with others'
MIN_COVERAGE = 0.25


@dataclass(frozen=True)
class Style:
    """`refusal` of each checked answer, and the cross-validated AUROC of prompt class on the training answers."""

    refusal: list[bool]
    auroc: float


def without_question(answer: str, question: str) -> str:
    """An answer without the words of its question, which tell the topic and not how it is answered."""
    asked = {word.strip(".,:;!?\"'()").casefold() for word in question.split()}
    return " ".join(word for word in answer.split() if word.strip(".,:;!?\"'()").casefold() not in asked)


def judge_by_style(harmful: Sequence[str], harmless: Sequence[str], checked: Sequence[str]) -> Style:
    """Which of `checked` are written as answers to harmful prompts are and answers to harmless ones are not.

    Logistic regression on character 1- to 5-grams of whole answers with the class of the *prompt* as weak label: no
    phrase list enters. Answers to harmless prompts are reliable negatives and answers to harmful ones a mixture
    (positive-unlabelled learning, Elkan and Noto 2008), so an answer that either class gives alike stays below one
    half. n-grams in fewer than a twentieth of the answers are topics and are left out.

    Its weakness: whatever else sets answers to harmful prompts apart (a warning, a topic that survives, another
    length) it takes for refusal, and over-refusals of harmless prompts teach it the contrary. So it ranks openings and
    never decides a rate. Raises `EmptySelection` where the two classes are answered alike: nothing is refused, or
    everything is.
    """
    from scipy.stats import binomtest
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    texts = [*harmful, *harmless]
    weak = np.array([True] * len(harmful) + [False] * len(harmless))
    if min(len(harmful), len(harmless)) < 5 or not any(t.strip() for t in texts):
        raise EmptySelection("there are too few train answers to judge refusals by their style")
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    try:
        found = cross_val_predict(_classifier(len(texts)), texts, weak, cv=folds, method="decision_function")
    except ValueError as error:  # no n-gram is in enough answers
        raise EmptySelection("train answers share too little to judge refusals by their style") from error
    above = int((found[weak] > np.quantile(found[~weak], 1 - ALIKE)).sum())
    if binomtest(above, len(harmful), ALIKE, "greater").pvalue >= STYLE_P:
        raise EmptySelection(
            f"answers to harmful and harmless train prompts are written alike ({above} of {len(harmful)} answers to "
            f"harmful ones stand out, {ALIKE:.0%} would by chance), so no judge of style can say which are refusals",
            hint="the model refuses too little, or everything; or give --opening-judge a judge model",
        )
    fold = np.empty(len(texts), np.int64)
    for number, (_train, test) in enumerate(folds.split(texts, weak)):
        fold[test] = number
    known = auroc_within(found, weak, fold).value
    decided = _classifier(len(texts)).fit(texts, weak).decision_function(list(checked)) > 0
    return Style([bool(d) for d in decided], known)


def _classifier(n: int) -> Pipeline:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True, min_df=max(2, math.ceil(n / 20)))
    return make_pipeline(grams, LogisticRegression(class_weight="balanced", max_iter=1000))


def validate(
    judge: str,
    scores: NDArray[np.float64],
    refusal: Sequence[bool | None],
    answers: Sequence[Sequence[int]],
    openings: Sequence[Sequence[int]],
) -> OpeningValidation:
    """One score, judgement and answer (token ids) per validation prompt; judgement None: degenerate or unparsed."""
    yes = [i for i, r in enumerate(refusal) if r is True]
    no = [i for i, r in enumerate(refusal) if r is False]
    opens = [any(tuple(a[: len(o)]) == tuple(o) for o in openings) for a in answers]
    counts = (
        len(yes),
        len(no),
        len(refusal) - len(yes) - len(no),
        sum(opens[i] for i in yes),
        sum(opens[i] for i in no),
    )
    if min(len(yes), len(no)) < MIN_JUDGED:
        return OpeningValidation(
            judge,
            *counts,
            reason=f"the judge {judge!r} found {len(yes)} refusals and {len(no)} other answers to "
            f"validation prompts, at least {MIN_JUDGED} of each are needed to tell whether the openings are right",
        )
    return OpeningValidation(judge, *counts, auroc(scores[yes], scores[no]))


def check(found: OpeningValidation, least: float, lang: str, origin: str) -> Auroc:
    """The AUROC.

    Raises `EmptySelection` with too few refusals to tell, and for derived openings that do not rank them: a finding of
    this language, which stops no other. `UnfitOpenings` for given ones: a mistake to mend before more is run.
    """
    if found.auroc is None:
        raise EmptySelection(
            f"{found.reason}", hint="use more validation prompts (--n-val), or a model that refuses in this language"
        )
    known = found.auroc
    if known.value >= least and found.covered >= MIN_COVERAGE * found.refusals:
        return known
    told = (
        f"the {origin} refusal openings do not fit {lang!r}: {found.covered} of {found.refusals} refusals (judge "
        f"{found.judge!r}) open with them, and their refusal score ranks refusals above the {found.others} "
        f"other answers with AUROC {known.value:.2f} [{known.low:.2f}, {known.high:.2f}], "
        f"at least {least:g} and a quarter of the refusals are needed"
    )
    if origin == "given":
        raise UnfitOpenings(
            told,
            hint="they are those of another language, model or tokenizer: leave --refusal-openings out for this "
            f"language to derive its own, or give {lang}=TEXT",
        )
    raise EmptySelection(
        told,
        hint="the judge may be wrong in this language: look at a few labels, try another --judge or --opening-judge, "
        "use more --n-train, give --refusal-openings, select by --criterion cosmic, or lower --min-opening-auroc",
    )
