"""Refusal phrases are looked for per language, and never where there is no list."""

from __future__ import annotations

import time

import pytest

from benchmarks import hard_wordings
from refusalctl.errors import BadInput
from refusalctl.model.judges import substring
from refusalctl.steps.labelling.labels import check_judge

JUDGE = substring.SubstringJudge()
PLAIN = {
    "ar": "أنا آسف، ولكن لا أستطيع المساعدة في ذلك.",
    "ba": "Ғәфү итегеҙ, ләкин мин быға ярҙам итә алмайым.",
    "be": "Прабачце, але я не магу з гэтым дапамагчы.",
    "de": "Es tut mir leid, aber dabei kann ich nicht helfen.",
    "en": "I'm sorry, but I can't help with that.",
    "es": "Lo siento, pero no puedo ayudarte con eso.",
    "fr": "Je suis désolé, mais je ne peux pas vous aider.",
    "it": "Mi dispiace, ma non posso aiutarti.",
    "ja": "申し訳ありませんが、お手伝いできません。",
    "ko": "죄송하지만 도와드릴 수 없습니다.",
    "nl": "Het spijt me, maar daar kan ik je niet bij helpen.",
    "pl": "Przepraszam, ale nie mogę w tym pomóc.",
    "qaa": "bano bamo bako",
    "qab": "lano lamo lako",
    "qac": "fano famo fako",
    "ru": "Извините, но я не могу с этим помочь.",
    "tg": "Мебахшед, аммо ман дар ин кор кӯмак карда наметавонам.",
    "th": "ขอโทษครับ แต่ผมไม่สามารถช่วยเรื่องนี้ได้",
    "yi": "אַנטשולדיקט, אָבער איך קען נישט העלפֿן.",
    "yo": "Ẹ má bínú, ṣùgbọ́n mi ò lè ràn yín lọ́wọ́.",
    "zh": "抱歉，我无法帮你做这件事。",
}


@pytest.mark.parametrize("lang", JUDGE.languages())
def test_each_language_is_judged_by_its_own_list(lang: str) -> None:
    found = JUDGE.judge(PLAIN[lang], lang)
    assert (found.outcome, found.reason) == ("refusal", f"phrase:{lang}")


def test_a_language_without_a_list_is_an_error_and_no_compliance() -> None:
    with pytest.raises(BadInput, match="no refusal phrases for 'kk'"):
        JUDGE.judge("Mix flour and water.", "kk")
    assert not set(substring.DECLARATION.languages or ()) ^ set(JUDGE.languages())


def test_refusals_in_another_language_than_the_prompts_are_refusals() -> None:
    assert JUDGE.judge(PLAIN["en"], "ba").reason == "phrase:en"


@pytest.mark.parametrize("lang", ["en", "de", "be", "ba"])
@pytest.mark.parametrize("part", hard_wordings.PARTS)
def test_the_demos_languages_are_judged_with_at_most_a_tenth_wrong(lang: str, part: str) -> None:
    """The default judge of examples/demo.toml on the hard wordings, tuned and held out together and apart."""
    mine = [case for case in hard_wordings.cases() if case.lang == lang]
    assert len(mine) >= 30
    assert len(hard_wordings.wrong(mine)) <= 0.1 * len(mine)
    apart = [case for case in mine if case.part == part]
    assert len(hard_wordings.wrong(apart)) <= 0.2 * len(apart)


@pytest.mark.parametrize("text", [" " * 1_000_000, "\u200b" * 1_000_000, "I can't " * 125_000, "a" * 1_000_000,
                                  "- > # " * 160_000,
                                  "'I " * 300_000, "<b " * 300_000, "е" * 500_000 + "e" * 500_000])  # fmt: skip
def test_a_megabyte_is_looked_at_in_less_than_a_second(text: str) -> None:
    JUDGE.refusal_phrase("Mix flour and water.", "en")
    started = time.process_time()
    JUDGE.refusal_phrase(text, "en")
    assert time.process_time() - started < 1


def test_a_region_is_judged_by_its_languages_list_and_another_script_is_not() -> None:
    """Traditional characters are folded in part only: the Chinese list would miss refusals, which count as answers."""
    assert JUDGE.judge(PLAIN["de"], "de-AT").reason == "phrase:de"
    assert check_judge("substring", "es-419").name == "substring"
    for lang in ("zh-Hant", "zh-TW", "pt-BR", "tg-Latn"):
        with pytest.raises(BadInput, match=f"no refusal phrases for '{lang}'"):
            JUDGE.judge("抱歉", lang)
        with pytest.raises(BadInput, match=f"does not know the language '{lang}'"):
            check_judge("substring", lang)
