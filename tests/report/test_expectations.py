"""Expectations of a transfer: what they may say, which cells they are about, and what its verdicts make of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from refusalctl.errors import BadInput
from refusalctl.records.estimates import Interval
from refusalctl.records.transfer import OutcomeCounts, RuleLimits, Transfer, TransferCell
from refusalctl.records.verdict import Verdict, VerdictValue
from refusalctl.report.expectations import check, overall, parse
from refusalctl.report.junit import junit
from refusalctl.store.formats import read_record

GOLDEN = next((Path(__file__).resolve().parents[1] / "golden" / "store" / "transfer").iterdir())


def verdict(value: VerdictValue) -> Verdict:
    return Verdict(value, f"because {value}", 0.5, Interval(0.3, 0.7), Interval(0.3, 0.7), 1.0, 40)


def cell(source: str, target: str, value: VerdictValue, induction: VerdictValue | None = None) -> TransferCell:
    return TransferCell(
        source=source, target=target, condition="native" if source == target else "transferred", prompts="harmful",
        n=40, counts=OutcomeCounts(), refusal=None, compliance=None, degenerate=None, unusable=None, completions=None,
        labels="0" * 64, removal=verdict(value), induction=verdict(induction) if induction else None,
    )  # fmt: skip


@pytest.fixture
def matrix() -> Transfer:
    """en and be into en, de, ba and tg; be has no direction."""
    found = {"en": "transfers", "de": "transfers", "ba": "does not transfer", "tg": "inconclusive"}
    cells = tuple(cell("en", target, value) for target, value in found.items())  # type: ignore[arg-type]
    return Transfer(
        {"sources": ("en", "be"), "targets": tuple(found)}, {}, RuleLimits(0.1, 0.2, 6), cells, {}, {},
        {"be": "the model refused 0 train prompts"}, {}, {},
    )  # fmt: skip


def states(matrix: Transfer, *texts: str) -> dict[str, str]:
    return {each.expectation: each.state for each in check(matrix, [parse(text) for text in texts])}


def test_an_expectation_is_met_broken_or_left_undecided(matrix: Transfer) -> None:
    assert states(matrix, "en>de=transfers", "en > ba = Does-Not_Transfer", "en>en=transfers") == {
        "en>de=transfers": "met", "en>ba=does not transfer": "met", "en>en=transfers": "met"
    }  # fmt: skip
    assert states(matrix, "en>ba=transfers") == {"en>ba=transfers": "not met"}
    assert states(matrix, "en>de!=transfers") == {"en>de!=transfers": "not met"}
    assert states(matrix, "en>ba!=transfers|reverses") == {"en>ba!=transfers|reverses": "met"}


def test_what_decides_nothing_is_no_evidence_for_either_side_unless_it_is_named(matrix: Transfer) -> None:
    assert states(matrix, "en>tg=transfers", "en>tg!=transfers", "be>de=transfers", "be>de!=reverses") == {
        "en>tg=transfers": "undecided", "en>tg!=transfers": "undecided",
        "be>de=transfers": "undecided", "be>de!=reverses": "undecided",
    }  # fmt: skip
    assert states(matrix, "en>tg=transfers|inconclusive") == {"en>tg=transfers|inconclusive": "met"}
    assert states(matrix, "en>tg!=inconclusive") == {"en>tg!=inconclusive": "not met"}
    (unmeasured,) = check(matrix, [parse("be>de=transfers")])
    assert (unmeasured.verdict, unmeasured.removed) == (None, None)
    assert unmeasured.reason == "the model refused 0 train prompts"


def test_a_star_stands_for_every_other_language(matrix: Transfer) -> None:
    assert states(matrix, "en>*!=reverses") == {
        "en>de!=reverses": "met", "en>ba!=reverses": "met", "en>tg!=reverses": "undecided"
    }  # fmt: skip
    assert set(states(matrix, "*>de=transfers")) == {"en>de=transfers", "be>de=transfers"}
    assert len(states(matrix, "*>*=transfers")) == 7  # en to 3, be to 4


def test_the_worst_state_counts(matrix: Transfer) -> None:
    def state(*texts: str) -> str:
        return overall(check(matrix, [parse(text) for text in texts]))

    assert state("en>de=transfers") == "met"
    assert state("en>de=transfers", "en>tg=transfers") == "undecided"
    assert state("en>de=transfers", "en>tg=transfers", "en>ba=transfers") == "not met"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("en>de", "is no expectation"),
        ("en=transfers", "is no expectation"),
        ("en>de=", "is no expectation"),
        ("en>de=transfer", "did you mean 'transfers'"),
        ("en>de=yes", "verdicts: transfers, does not transfer"),
        ("en>de=transfers|", "there is no verdict ''"),
        ("both:en>de=transfers", "expected removal or induction"),
    ],
)
def test_what_is_no_expectation_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse(text)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("en>fr=transfers", "'fr' is not a target of this transfer; it has en, de, ba, tg"),
        ("tg>de=transfers", "'tg' is not a source of this transfer; it has en, be"),
        ("fr>*=transfers", "'fr' is not a source"),
        ("induction:en>de=transfers", "did not add directions to harmless prompts"),
    ],
)
def test_an_expectation_about_what_the_transfer_has_not_is_an_error(matrix: Transfer, text: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        states(matrix, text)
    assert said in str(refused.value)


def test_induction_has_verdicts_of_its_own(matrix: Transfer) -> None:
    both = msgspec.structs.replace(matrix, cells=(cell("en", "de", "transfers", "reverses"),))
    assert states(both, "induction:en>de=transfers", "removal:en>de=transfers") == {
        "induction:en>de=transfers": "not met", "en>de=transfers": "met"
    }  # fmt: skip


def test_a_stored_transfer_is_read() -> None:
    stored = read_record(GOLDEN, Transfer)
    asked = check(stored, [parse(f"{c.source}>{c.target}=transfers") for c in stored.cells if c.is_ablation])
    assert [each.verdict for each in asked] == [c.removal.value for c in stored.cells if c.is_ablation and c.removal]


def test_junit_counts_failures_and_errors_and_holds_any_reason(matrix: Transfer) -> None:
    checks = check(matrix, [parse("en>*=transfers")])
    odd = msgspec.structs.replace(checks[1], reason='less < than "that" & \x00\x1b more')
    written = junit([checks[0], odd, checks[2]], {"transfer": "a" * 64}, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    suite = ElementTree.fromstring(written)
    assert suite.tag == "testsuite"
    facts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "timestamp")}
    assert facts == {"tests": "3", "failures": "1", "errors": "1", "skipped": "0", "timestamp": "2026-01-02T03:04:05"}
    assert [each.tag for each in suite] == [
        "properties",
        "testcase",
        "testcase",
        "testcase",
        "system-out",
        "system-err",
    ]
    met, failed, open_ = suite.findall("testcase")
    assert len(met) == 0
    assert (failed[0].tag, failed[0].text) == ("failure", 'less < than "that" &  more')
    assert (open_[0].tag, open_[0].get("type"), open_[0].get("message")) == (
        "error", "undecided", "en>tg is 'inconclusive'"
    )  # fmt: skip
