"""The languages the tool knows by name, and how each set of prompts covers them."""

from __future__ import annotations

from refusalctl.errors import BadInput

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
    """English name of a language code, or the code itself for a language added by the user."""
    return NAMES.get(lang, lang)


def check_code(lang: str) -> str:
    """Return `lang` if it looks like an ISO 639 code. Raises `BadInput` otherwise."""
    if not (2 <= len(lang) <= 8 and lang.replace("_", "").replace("-", "").isalnum() and lang.islower()):
        raise BadInput(
            f"language {lang!r} is not an ISO 639 code",
            hint=f"known: {', '.join(sorted(NAMES))}; or a code of your own with `data add`",
        )
    return lang
