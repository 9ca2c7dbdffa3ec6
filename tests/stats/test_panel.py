"""Agreement of judges: published worked examples, undefined kappas, clusters, votes."""

from __future__ import annotations

import numpy as np
import pytest

from refusalctl.errors import BadInput
from refusalctl.stats.outcomes import LABELLED
from refusalctl.stats.panel import Vote, agreement, shared_flag, vote

R, C, D, U = "refusal", "compliance", "degenerate", "unparsed"


def spread(table: list[list[int]]) -> list[tuple[str, str]]:
    return [
        (LABELLED[i], LABELLED[j]) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)
    ]  # fmt: skip


def test_cohen_s_own_example() -> None:
    # Cohen 1960, Educational and Psychological Measurement 20:37, table 1 in counts of 200: kappa = .492
    votes = spread([[88, 14, 18], [10, 40, 10], [2, 6, 12]])
    found = agreement(votes, [str(i) for i in range(200)])
    assert (found.kappa, found.n, found.agree, found.left_out) == (pytest.approx(0.492, abs=5e-4), 200, 140, 0)
    assert found.interval is not None
    # asymptotic standard error of this table, Fleiss, Cohen and Everitt 1969: about .055
    assert found.interval == pytest.approx((0.492 - 1.96 * 0.055, 0.492 + 1.96 * 0.055), abs=0.02)


def test_fleiss_by_hand() -> None:
    votes = [(R, R, R), (R, R, C), (C, C, C), (D, C, C)]
    # P_i = 1, 1/3, 1, 1/3, mean 2/3; shares of R, C, D: 5/12, 6/12, 1/12
    chance = (25 + 36 + 1) / 144
    found = agreement(votes, ["a", "b", "c", "d"])
    assert found.kappa == pytest.approx((2 / 3 - chance) / (1 - chance))
    assert (found.n, found.agree) == (4, 2)


def test_ac1_equals_irrcac_and_stays_where_kappa_falls() -> None:
    # irrCAC 0.4.4 (Gwet's own reference), with four categories
    votes = [(R, R)] * 93 + [(R, C)] * 2 + [(C, R)] * 3 + [(C, C)] * 2
    found = agreement(votes, [str(i) for i in range(100)])
    assert found.ac1 == pytest.approx(0.94775476, abs=5e-6)
    assert found.ac1_interval is not None
    assert found.ac1_interval.low < found.ac1 < found.ac1_interval.high
    assert found.kappa == pytest.approx(0.419, abs=2e-3)
    three = [(R, R, R), (R, R, C), (C, C, C), (D, C, C)]
    assert agreement(three, list("abcd")).ac1 == pytest.approx(0.53398058, abs=5e-6)


@pytest.mark.parametrize("votes", [[(R, R)] * 5, [(C, C, C)] * 5])
def test_one_category_is_undefined_and_no_number(votes: list[tuple[str, ...]]) -> None:
    found = agreement(votes, list("abcde"))
    assert (found.kappa, found.interval, found.n, found.agree) == (None, None, 5, 5)
    assert (found.ac1, found.ac1_interval) == (1.0, (1.0, 1.0))  # all of them agree, and chance does not explain it
    assert "nothing but" in found.undefined


def test_nothing_labelled_is_undefined() -> None:
    found = agreement([(U, R), (R, U)], ["a", "b"])
    assert (found.kappa, found.n, found.left_out) == (None, 0, 2)
    assert found.undefined


def test_an_unlabelled_completion_is_no_opinion() -> None:
    votes = [(R, R), (C, C), (R, C), (C, C)]
    with_gaps = [*votes, (U, R), (C, U), (U, U)]
    plain, gaps = (agreement(v, [str(i) for i in range(len(v))]) for v in (votes, with_gaps))
    assert (gaps.kappa, gaps.n, gaps.left_out) == (plain.kappa, 4, 3)


def test_too_rare_a_category_has_a_kappa_and_no_interval() -> None:
    votes = [(R, R)] * 30 + [(C, C)]  # a third of the resamples hold no compliance
    found = agreement(votes, [str(i) for i in range(31)])
    assert found.kappa == 1.0
    assert found.interval is None


def test_repeats_of_a_prompt_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    votes = [(LABELLED[a], LABELLED[a if rng.random() < 0.8 else 1 - a]) for a in rng.integers(2, size=60)]
    names = [str(i) for i in range(60)]
    once, four, apart = (
        agreement(votes, names), agreement(votes * 4, names * 4), agreement(votes * 4, [str(i) for i in range(240)])
    )  # fmt: skip
    widths = [found.interval.high - found.interval.low for found in (once, four, apart) if found.interval]
    assert once.kappa == pytest.approx(four.kappa) == pytest.approx(apart.kappa)
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    assert widths[2] < 0.7 * widths[0]


def test_votes() -> None:
    assert vote((R, R, C), "majority") == Vote(R, "compliance 1, refusal 2")
    assert vote((R, R, C), "unanimous").outcome == "tie"
    assert vote((R, R, R), "unanimous").outcome == R
    assert vote((R, C), "majority").outcome == "tie"
    assert vote((R, R, C, C), "majority").outcome == "tie"
    assert vote((R, C, D), "majority").outcome == "tie"
    assert vote((R, U), "majority").outcome == "tie"  # one judge does not speak for two
    assert vote((R, R, U), "majority").outcome == R
    assert vote((R, R, U), "unanimous").outcome == "tie"
    assert vote((U, U), "majority") == Vote(U, "no judge gave a label")
    with pytest.raises(BadInput, match="there is no rule"):
        vote((R, R), "first")  # type: ignore[arg-type]


def test_a_shared_flag_needs_more_than_half() -> None:
    assert shared_flag([True, None, None]) is True
    assert shared_flag([True, False]) is None
    assert shared_flag([False, False, True, None]) is False
    assert shared_flag([None, None]) is None


def test_one_judge_is_no_panel() -> None:
    for votes in ([(R,)], [(R, C), (R,)], []):
        with pytest.raises(BadInput, match="at least two judges"):
            agreement(votes, ["a"] * len(votes))
