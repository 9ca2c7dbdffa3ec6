"""The languages the tool knows by name, and how each set of prompts covers them."""

from __future__ import annotations

from refusalctl.language_codes import ISO_639_1, base

NAMES: dict[str, str] = {
    "ar": "Arabic",
    "ba": "Bashkir",
    "be": "Belarusian",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "ru": "Russian",
    "tg": "Tajik",
    "th": "Thai",
    "yi": "Yiddish",
    "yo": "Yoruba",
    "zh": "Chinese",
}
PAPER = ("en", "de", "es", "fr", "it", "nl", "ja", "pl", "ru", "zh", "ko", "ar", "th", "yo")
SAMPLE = ("en", "de", "ru", "be", "ba", "tg")


def name(lang: str) -> str:
    """English name of a language code, `Chinese (Hant)` of `zh-Hant`; or the code itself where it has no name."""
    known = ISO_639_1.get(base(lang))
    rest = lang[len(base(lang)) + 1 :]
    return lang if known is None else f"{known} ({rest})" if rest else known
