"""Codes of languages: one spelling, and a wrong one's meaning."""

from __future__ import annotations

import pytest

from refusalctl.errors import BadInput
from refusalctl.language_codes import base, canonical, check_code, listed, same_writing, script, suggestion


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("en", "en"), ("EN", "en"), ("zh_hant", "zh-Hant"), ("zh-hant-tw", "zh-Hant-TW"), ("pt_br", "pt-BR"),
        ("es-419", "es-419"), ("SR_LATN", "sr-Latn"), ("rus", "ru"), ("iw", "he"), ("cmn", "zh"), ("qaa", "qaa"),
        ("tg_Latn", "tg-Latn"), ("ca-valencia", "ca-valencia"), (" be ", "be"), ("bel_Cyrl", "be-Cyrl"),
        ("by", None), ("xx", None), ("english", None), ("und", None), ("", None), ("zh-TW-Hant", None),
        ("en-", None), ("../en", None), ("en/be", None),
    ],
)  # fmt: skip
def test_one_spelling(given: str, code: str | None) -> None:
    assert canonical(given) == code
    if code is not None:
        assert canonical(code) == code


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("Belarusian", "did you mean 'be'"), ("by", "did you mean 'be'"), ("cn", "did you mean 'zh'"),
        ("belarussian", "did you mean 'be'"), ("und", "undetermined"), ("Chinese (Taiwan)", "did you mean 'zh'"),
        ("??", "give an ISO 639 code"),
    ],
)  # fmt: skip
def test_a_wrong_code_is_told_what_it_meant(given: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        check_code(given)
    assert check_code("zh_tw") == "zh-TW"
    assert suggestion("kkk", ("kk",)) == "did you mean 'kk' (Kazakh)?"


def test_parts_of_a_code_and_lists_that_serve_it() -> None:
    assert (base("zh-Hant"), script("zh-Hant"), script("zh-TW")) == ("zh", "Hant", None)
    assert (same_writing("de-AT"), same_writing("sr-Latn"), same_writing("zh-TW")) == ("de", None, None)
    known = ("de", "zh", "zh-HK")
    assert [listed(lang, known) for lang in ("de", "de-AT", "zh-Hant", "zh-TW", "zh-HK", "pt-BR", "de-Latn")] == [
        "de", "de", None, None, "zh-HK", None, None,
    ]  # fmt: skip
