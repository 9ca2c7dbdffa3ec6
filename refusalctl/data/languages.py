"""The languages the tool knows by name, and how each set of prompts covers them."""

from __future__ import annotations

from refusalctl.errors import BadInput
from refusalctl.language_codes import ISO_639_1, base, canonical, suggestion

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


def check_code(lang: str) -> str:
    """The one spelling of a language code (BCP 47), `zh-Hant` of `zh_hant`. Raises `BadInput` for what is none."""
    found = canonical(lang)
    if found is None:
        raise BadInput(
            f"{lang[:40]!r} is no language code",
            hint=suggestion(lang, tuple(NAMES)) or f"give an ISO 639 code such as {', '.join(sorted(NAMES))}, zh-Hant",
        )
    return found
