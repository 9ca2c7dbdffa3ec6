"""Cost panels in words: what is shown is what was measured, and what was not is said."""

from __future__ import annotations

from msgspec.structs import replace

from refusalctl.records.cost import Cost, CostArm, CostEffect, MatchedDose, Unmeasured
from refusalctl.records.estimates import Interval
from refusalctl.report import cost_words

ARM = CostArm("ablate en", "ablate", "", 1.0, (), ("en",), (0.5, 1.0))
REMOVED = CostEffect(
    "ablate en", 1.0, "removal", "sample", "en", "share", 40, 0.9, 0.0, 0.875, Interval(0.73, 0.96), 35, 0, 1e-9
)
KL = CostEffect("ablate en", 1.0, "kl", "sample", "en", "nats", 40, None, 0.084, 0.084, Interval(0.05, 0.118))
TASK = CostEffect(
    "ablate en", 1.0, "task", "everyday acc", None, "share", 40, 0.5, 0.475, -0.025, Interval(-0.09, 0.04), 1, 2, 1.0
)
LOSS = CostEffect(
    "ablate en", 1.0, "text", "en.txt", "en", "nats/token", 12, 3.1, 3.1, 0.00001, Interval(-0.00002, 0.00004)
)
HALF = [replace(each, dose=0.5) for each in (REMOVED, KL)]


def panel(*effects: CostEffect, **more: object) -> Cost:
    return Cost({}, "sample", "substring", ("en",), (ARM,), effects, **({"matches": ()} | more))  # type: ignore[arg-type]


def test_removal_and_cost_are_one_line() -> None:
    byte = replace(LOSS, unit="nats/byte", difference=9.0)
    line = cost_words.line(panel(REMOVED, KL, TASK, LOSS, byte), "ablate en", "en")
    assert line is not None
    assert line.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-") == (
        "ablate en in English: refusals removed 88 points (73 to 96); cost: KL, harmless prompts 0.084 nats "
        "(0.050 to 0.118); everyday acc -2 points (-9 to 4); loss, text (en.txt) 0.000 nats/token (0.000 to 0.000)"
    )
    assert cost_words.line(panel(REMOVED), "other", "en") is None
    assert str(cost_words.line(panel(KL), "ablate en", "en")).startswith("ablate en in English: removal not measured")


def test_what_was_not_measured_is_said_and_has_no_number() -> None:
    lost = replace(TASK, difference=None, interval95=None, why="an item has no score")
    assert "everyday acc not measured: an item has no score" in cost_words.told(lost)
    assert cost_words.shown_row(lost)[8] == "an item has no score"
    lacking = panel(REMOVED, unmeasured=(Unmeasured("safe", "xstest", "be", "it has no be"),))
    assert cost_words.sentences(lacking)[-1] == "not measured: safe prompts refused xstest, be: it has no be"


def test_a_matched_dose_says_what_it_reaches_and_one_that_is_none_says_so() -> None:
    match = MatchedDose("kl", "en", 0.1, True, "ablate en", 0.5, 0.084)
    told = cost_words.sentences(panel(*HALF, REMOVED, KL, matches=(match,)))
    assert told[1].startswith("matched, KL at most 0.100 nats (asked for): ablate en at dose 0.5 in English: refusals")
    none = replace(match, by="removal", level=0.95, dose=None, reached=None)
    told = cost_words.sentences(panel(REMOVED, matches=(none,)))
    assert told[1] == (
        "matched, at least 95 points removed (asked for): no measured dose of ablate en reaches it in English"
    )
