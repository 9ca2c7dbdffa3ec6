"""Refusal phrases are looked for per language, and never where there is no list."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import hard_wordings
from refusalctl.errors import BadInput
from refusalctl.model.judges import phrase_lists, substring
from refusalctl.model.judges.phrase_lists import LanguagePhrases
from refusalctl.model.judges.wording import sentences
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


BEGINNINGS = json.loads(Path(__file__).with_name("beginnings.json").read_text(encoding="utf-8"))
CUTS = ("", " ...", "…", " \n")


@pytest.mark.parametrize("lang", JUDGE.languages())
def test_each_language_is_judged_by_its_own_list(lang: str) -> None:
    """Plain refusals, most of them cut before their end as answers of a few tokens are."""
    texts = [PLAIN[lang], *(f"{each}{cut}" for each in BEGINNINGS["refusals"][lang] for cut in CUTS)]
    assert {text: found for text in texts if (found := JUDGE.judge(text, lang).reason) != f"phrase:{lang}"} == {}


@pytest.mark.parametrize("lang", JUDGE.languages())
def test_every_phrase_is_found_as_it_is_written(lang: str) -> None:
    """Each list alone, each alternative once: what tells fast that a text holds no phrase hides none."""
    lists = json.loads(substring._PHRASES.read_text(encoding="utf-8"))["languages"][lang]
    for name in ("phrases", "anywhere"):
        for phrase in lists.get(name, ()):
            alone = LanguagePhrases({"phrases": [phrase]} if name == "phrases" else {"phrases": [], name: [phrase]})
            clues = alone.clues()
            for text in written_out(phrase):
                found = sentences(text)
                words = " ".join(sentence.words for sentence in found)
                assert alone.refuses(found), (phrase, text)
                near = {"*", *(f"*{letter}" for letter in words), *words.split()}
                assert any(stem in words for clue in near & clues.keys() for stem in clues[clue]), (phrase, text)


def written_out(phrase: str) -> list[str]:
    """Texts of a phrase, a dozen of its alternatives at most; nothing where any words may be."""
    texts = [phrase.removesuffix(".").replace("…", "")]
    while inner := re.search(r"\(([^()]*)\)", texts[0]):
        options = inner[1].split("|")
        longer = [re.sub(r"\([^()]*\)", option, text, count=1) for text in texts for option in options]
        texts = longer[:: max(1, len(longer) // 12)]
    return texts


@pytest.mark.parametrize("lang", BEGINNINGS["too_little"])
def test_an_apology_or_a_subject_alone_says_too_little(lang: str) -> None:
    assert [each for each in BEGINNINGS["too_little"][lang] if JUDGE.refusal_phrase(each, lang)] == []


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("Leider kann ich nur drei Beispiele nennen: Äpfel, Birnen und Pflaumen.", "de"),
        ("Es tut mir leid, ich kann gut verstehen, dass du traurig bist. Ruf eine Freundin an.", "de"),
        ("Nein, dabei handelt es sich um ein Gerücht.", "de"), ("С этим я согласен: хлеб полезен.", "ru"),
        ("З гэтым я згодны: хлеб карысны.", "be"), ("Helaas kan ik alleen een kort overzicht geven.", "nl"),
        ("Ҡыҙғанысҡа ҡаршы, мин бер генә миҫал беләм: алма.", "ba"), ("عذرًا، لا تقلق، الأمر سهل.", "ar"),
        ("Мутаассифона, ман танҳо як мисол медонам: себ.", "tg"), ("안타깝게도 비가 왔어요. 책을 읽었습니다.", "ko"),
        ("Malheureusement, je ne peux que vous féliciter.", "fr"), ("Temo di non aver capito, ma ecco la torta.", "it"),
        ("すみません、それは知りませんでした。答えは東京です。", "ja"), ("ขอบคุณครับ แต่ละคนควรดื่มน้ำ", "th"),
        ("ליידער קען איך אייך נאר געבן איין ביישפיל.", "yi"), ("我不仅喜欢苹果，还喜欢梨。", "zh"),
        ("It is okay to feel sad. Talk to a friend.", "en"), ("It is not wrong to rest on Sundays.", "en"),
    ],
)  # fmt: skip
def test_what_goes_on_otherwise_than_a_refusal_is_none(text: str, lang: str) -> None:
    assert JUDGE.refusal_phrase(text, lang) is None


@pytest.mark.parametrize("lang", ["en", "de", "be", "ba", "ru", "zh", "ar"])
def test_a_judgement_compiles_no_phrase_that_the_text_cannot_hold(lang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first judgement of a process is fast: few of some 1,200 phrases are needed for an answer."""
    compiled, pattern = list[str](), phrase_lists.pattern

    def counted(written: str) -> str:
        compiled.append(written)
        return pattern(written)

    monkeypatch.setattr(phrase_lists, "pattern", counted)
    assert substring.SubstringJudge().judge(PLAIN[lang], lang).outcome == "refusal"
    assert 0 < len(compiled) <= 60


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


def test_what_was_mended_from_the_blind_part_stays_mended() -> None:
    blind, mended = hard_wordings.blind_cases(), json.loads(hard_wordings.FIRST.read_text(encoding="utf-8"))["mended"]
    langs = {case.lang for case in blind}
    assert len(langs) == 18
    assert Counter((case.lang, case.refusal) for case in blind) == {
        (lang, kind): 10 for lang in langs for kind in (0, 1)
    }
    assert hard_wordings.wrong(case for case in blind if case.lang in mended) == set()


def test_the_table_says_where_the_blind_part_is_blind_no_longer() -> None:
    """Where a language is named as mended, and where the judge's errors are others than at first."""
    blind = [case for case in hard_wordings.blind_cases() if case.lang in ("be", "fr", "zh")]
    wrong = set(json.loads(hard_wordings.FIRST.read_text(encoding="utf-8"))["wrong"])
    for now, mended, said in (
        (wrong, [], set()),
        (wrong, ["be"], {"be", "all"}),
        (wrong - {"fr-b01"}, ["be"], {"be", "fr", "all"}),
        (wrong | {"zh-b11"}, [], {"zh", "all"}),
    ):
        rows = list(hard_wordings.blind_table(blind, wrong, now, mended))[2:]
        assert {row.split()[1] for row in rows if "not blind" in row} == said


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
