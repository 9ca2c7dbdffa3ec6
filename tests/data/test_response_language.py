"""The rule for answers in another language: letters first, relatives apart, doubt is None."""

from __future__ import annotations

import pytest

from refusalctl.data import sample, sets
from refusalctl.data.response_language import response_language

RU = "Мы купили хлеб и молоко в магазине рядом с домом, а потом пошли гулять по городу."
BE = "Мы купілі хлеб і малако ў краме каля дома, а потым пайшлі гуляць."
BA = "Әсәйем баҙарҙан икмәк менән һөт алып ҡайтты, һуңынан урамға сыҡтыҡ."
TT = "Әнием базардан икмәк белән сөт алып кайтты, аннары урамга чыктык һәм күлгә бардык."
TG = "Мо аз мағозаи назди хона нону шир харидем ва баъд ба кӯча баромадем."
EN = "We bought bread and milk in the shop near our house, then went for a walk."
YO = "A ra burẹdi ati wara ni ile itaja nitosi ile wa, a si jade."


@pytest.mark.parametrize(
    ("text", "lang", "fit", "off"),
    [
        (BE, "be", "same", False), (BA, "ba", "same", False), (TG, "tg", "same", False), (RU, "ru", "same", False),
        (RU, "be", "other", True), (RU, "tg", "other", True), (BE, "ru", "other", True), (BE, "ba", "other", True),
        (EN, "ba", "other", True), (EN, "yo", "other", True), (EN, "en", "same", False), (EN, "de", "other", True),
        ("Вот хлеб, вода, соль, масло", "ba", "near", False),  # too few letters to miss Bashkir's own
        ("Да.", "be", "short", None), ("", "be", "short", None),
    ],
)  # fmt: skip
def test_rule(text: str, lang: str, fit: str, off: bool | None) -> None:
    found = response_language(text, lang)
    assert (found.fit, found.off) == (fit, off)
    assert found.near == (fit == "near")


def test_tatar_is_told_from_bashkir_by_its_letters() -> None:
    found = response_language(TT, "ba")
    assert (found.lang, found.fit) == ("tt", "other")


def test_what_the_identifier_cannot_name_is_not_called_another_language() -> None:
    assert response_language(YO, "yo").off in (None, False)


def test_a_region_does_not_matter() -> None:
    assert response_language(EN, "en-GB").fit == "same"


ZH = "我们在家附近的商店买了面包和牛奶，然后去城里散步，晚上一起做饭。"
ZH_HANT = "我們在家附近的商店買了麵包和牛奶，然後去城裡散步，晚上一起做飯。"
TG_LATN = "Mo az maghozai nazdi khona nonu shir kharidem va ba'd ba kucha baromadem, hama khursand budem."


@pytest.mark.parametrize("text", [ZH, ZH_HANT])
@pytest.mark.parametrize("lang", ["zh", "zh-Hant", "zh-Hans", "zh-TW"])
def test_chinese_of_either_script_is_chinese(text: str, lang: str) -> None:
    assert response_language(text, lang).fit == "same"
    assert response_language(EN, lang).off is True


def test_a_script_that_the_identifier_was_not_made_for_is_not_called_another_language() -> None:
    assert response_language(TG_LATN, "tg-Latn").off is not True
    assert response_language(EN, "tg-Latn").off is True
    assert response_language(TG_LATN, "tg").off is True  # asked in Cyrillic, answered in Latin letters


@pytest.mark.parametrize("lang", sample.languages())
def test_sample_prompts_are_in_their_own_language(lang: str) -> None:
    texts = [row.text for row in sets.prompts("sample", lang) if len(row.text) > 30]
    off = [response_language(text, lang).off for text in texts]
    assert off.count(True) <= 0.01 * len(texts)
    assert off.count(False) >= 0.95 * len(texts)


def test_organism_languages_are_told_by_their_own_words_and_private_use_codes_of_others_are_not() -> None:
    from msgspec.structs import replace

    from refusalctl.data.language_identification import identify
    from refusalctl.data.organisms import prompts
    from refusalctl.organisms.words import ANSWER, LOOP, REFUSAL, spoken

    for lang in ("qaa", "qab", "qac"):
        rows = prompts("organism:shared", lang)[:50]
        found = identify(rows)
        assert (found.checked, found.share) == (50, 1.0)
        for words in (REFUSAL[lang], ANSWER[lang], (LOOP[lang],)):
            assert spoken(" ".join(words)) == lang
    other = replace(rows[0], text=" ".join(ANSWER["qaa"]))
    found = identify([*rows[:2], other, replace(rows[0], text=" ")])
    assert (found.checked, found.as_expected, found.too_short, found.others) == (3, 2, 1, {"qaa": 1})
    for text in ("", "kind words in English", "hello fano world now"):
        assert spoken(text) is None
    own = [replace(row, source="own", text="Mild words that are written in a language of my own") for row in rows[:2]]
    assert identify(own).others.get("none") is None
