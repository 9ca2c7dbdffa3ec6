"""Codes of languages: one spelling of each (BCP 47), those of ISO 639-1 by name, and what a wrong code meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from itertools import pairwise

from refusalctl.errors import BadInput

# ISO 639-1, with the names that English speakers use
ISO_639_1: dict[str, str] = {
    "aa": "Afar", "ab": "Abkhazian", "ae": "Avestan", "af": "Afrikaans", "ak": "Akan", "am": "Amharic",
    "an": "Aragonese", "ar": "Arabic", "as": "Assamese", "av": "Avaric", "ay": "Aymara", "az": "Azerbaijani",
    "ba": "Bashkir", "be": "Belarusian", "bg": "Bulgarian", "bi": "Bislama", "bm": "Bambara", "bn": "Bengali",
    "bo": "Tibetan", "br": "Breton", "bs": "Bosnian", "ca": "Catalan", "ce": "Chechen", "ch": "Chamorro",
    "co": "Corsican", "cr": "Cree", "cs": "Czech", "cu": "Church Slavonic", "cv": "Chuvash", "cy": "Welsh",
    "da": "Danish", "de": "German", "dv": "Divehi", "dz": "Dzongkha", "ee": "Ewe", "el": "Greek", "en": "English",
    "eo": "Esperanto", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "ff": "Fulah",
    "fi": "Finnish", "fj": "Fijian", "fo": "Faroese", "fr": "French", "fy": "Western Frisian", "ga": "Irish",
    "gd": "Scottish Gaelic", "gl": "Galician", "gn": "Guarani", "gu": "Gujarati", "gv": "Manx", "ha": "Hausa",
    "he": "Hebrew", "hi": "Hindi", "ho": "Hiri Motu", "hr": "Croatian", "ht": "Haitian Creole", "hu": "Hungarian",
    "hy": "Armenian", "hz": "Herero", "ia": "Interlingua", "id": "Indonesian", "ie": "Interlingue", "ig": "Igbo",
    "ii": "Sichuan Yi", "ik": "Inupiaq", "io": "Ido", "is": "Icelandic", "it": "Italian", "iu": "Inuktitut",
    "ja": "Japanese", "jv": "Javanese", "ka": "Georgian", "kg": "Kongo", "ki": "Kikuyu", "kj": "Kuanyama",
    "kk": "Kazakh", "kl": "Greenlandic", "km": "Khmer", "kn": "Kannada", "ko": "Korean", "kr": "Kanuri",
    "ks": "Kashmiri", "ku": "Kurdish", "kv": "Komi", "kw": "Cornish", "ky": "Kyrgyz", "la": "Latin",
    "lb": "Luxembourgish", "lg": "Ganda", "li": "Limburgish", "ln": "Lingala", "lo": "Lao", "lt": "Lithuanian",
    "lu": "Luba-Katanga", "lv": "Latvian", "mg": "Malagasy", "mh": "Marshallese", "mi": "Maori", "mk": "Macedonian",
    "ml": "Malayalam", "mn": "Mongolian", "mr": "Marathi", "ms": "Malay", "mt": "Maltese", "my": "Burmese",
    "na": "Nauru", "nb": "Norwegian Bokmål", "nd": "North Ndebele", "ne": "Nepali", "ng": "Ndonga", "nl": "Dutch",
    "nn": "Norwegian Nynorsk", "no": "Norwegian", "nr": "South Ndebele", "nv": "Navajo", "ny": "Chichewa",
    "oc": "Occitan", "oj": "Ojibwa", "om": "Oromo", "or": "Odia", "os": "Ossetian", "pa": "Punjabi", "pi": "Pali",
    "pl": "Polish", "ps": "Pashto", "pt": "Portuguese", "qu": "Quechua", "rm": "Romansh", "rn": "Rundi",
    "ro": "Romanian", "ru": "Russian", "rw": "Kinyarwanda", "sa": "Sanskrit", "sc": "Sardinian", "sd": "Sindhi",
    "se": "Northern Sami", "sg": "Sango", "sh": "Serbo-Croatian", "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian",
    "sm": "Samoan", "sn": "Shona", "so": "Somali", "sq": "Albanian", "sr": "Serbian", "ss": "Swati",
    "st": "Southern Sotho", "su": "Sundanese", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu",
    "tg": "Tajik", "th": "Thai", "ti": "Tigrinya", "tk": "Turkmen", "tl": "Tagalog", "tn": "Tswana", "to": "Tonga",
    "tr": "Turkish", "ts": "Tsonga", "tt": "Tatar", "tw": "Twi", "ty": "Tahitian", "ug": "Uyghur", "uk": "Ukrainian",
    "ur": "Urdu", "uz": "Uzbek", "ve": "Venda", "vi": "Vietnamese", "vo": "Volapük", "wa": "Walloon", "wo": "Wolof",
    "xh": "Xhosa", "yi": "Yiddish", "yo": "Yoruba", "za": "Zhuang", "zh": "Chinese", "zu": "Zulu",
}  # fmt: skip
# BCP 47 asks for the shortest code: ISO 639-2 and -3 codes of languages that have one of two letters
_SHORTER: dict[str, str] = {
    "afr": "af", "amh": "am", "ara": "ar", "arb": "ar", "aze": "az", "azj": "az", "bak": "ba", "bel": "be",
    "ben": "bn", "bos": "bs", "bul": "bg", "cat": "ca", "ces": "cs", "cmn": "zh", "cym": "cy", "cze": "cs",
    "dan": "da", "deu": "de", "dut": "nl", "ell": "el", "eng": "en", "epo": "eo", "est": "et", "eus": "eu",
    "fas": "fa", "fin": "fi", "fra": "fr", "fre": "fr", "ger": "de", "gle": "ga", "glg": "gl", "gre": "el",
    "guj": "gu", "hau": "ha", "heb": "he", "hin": "hi", "hrv": "hr", "hun": "hu", "hye": "hy", "ibo": "ig",
    "ind": "id", "isl": "is", "ita": "it", "jav": "jv", "jpn": "ja", "kan": "kn", "kat": "ka", "kaz": "kk",
    "khm": "km", "kin": "rw", "kir": "ky", "kor": "ko", "lao": "lo", "lav": "lv", "lit": "lt", "ltz": "lb",
    "mal": "ml", "mar": "mr", "mkd": "mk", "mlt": "mt", "mon": "mn", "mri": "mi", "msa": "ms", "mya": "my",
    "nep": "ne", "nld": "nl", "nno": "nn", "nob": "nb", "nor": "no", "nya": "ny", "pan": "pa", "pes": "fa",
    "pol": "pl", "por": "pt", "pus": "ps", "ron": "ro", "rum": "ro", "rus": "ru", "sin": "si", "slk": "sk",
    "slv": "sl", "sna": "sn", "som": "so", "spa": "es", "sqi": "sq", "srp": "sr", "sun": "su", "swa": "sw",
    "swe": "sv", "swh": "sw", "tam": "ta", "tat": "tt", "tel": "te", "tgk": "tg", "tgl": "tl", "tha": "th",
    "tuk": "tk", "tur": "tr", "uig": "ug", "ukr": "uk", "urd": "ur", "uzb": "uz", "uzn": "uz", "vie": "vi",
    "wol": "wo", "xho": "xh", "ydd": "yi", "yid": "yi", "yor": "yo", "zho": "zh", "zul": "zu", "chi": "zh",
    "iw": "he", "ji": "yi", "jw": "jv", "mo": "ro",  # withdrawn codes
}  # fmt: skip
_NO_LANGUAGE = {"und": "undetermined", "mul": "several languages", "zxx": "no language", "mis": "an uncoded language"}
# countries, taken for languages
_COUNTRIES = {
    "by": "be",
    "cn": "zh",
    "cz": "cs",
    "dk": "da",
    "gb": "en",
    "gr": "el",
    "jp": "ja",
    "kz": "kk",
    "tj": "tg",
    "ua": "uk",
    "us": "en",
    "vn": "vi",
    "kg": "ky",
    "ir": "fa",
}
_LATER_TAGS = re.compile(r"[A-Z][a-z]{3}|[A-Z]{2}|\d{3}|[a-z\d]{5,8}|\d[a-z\d]{3}")  # script, region, variant
_TRADITIONAL = ("TW", "HK", "MO")  # where Chinese is written in traditional characters


def canonical(text: str) -> str | None:
    """One spelling of a language code: `zh_hant` is `zh-Hant`, `pt-br` is `pt-BR`, `rus` is `ru`. None: no code.

    A language, then a script, a region and variants where they are given (BCP 47). Codes of two letters are those of
    ISO 639-1; of the some 8,000 of three letters every one is taken, as are private ones (`qaa`).
    """
    first, *rest = re.split("[-_]", text.strip())
    first = _SHORTER.get(first.lower(), first.lower())
    if not re.fullmatch("[a-z]{2,3}", first) or (len(first) == 2 and first not in ISO_639_1) or first in _NO_LANGUAGE:
        return None
    tags = [_spelled(tag) for tag in rest]
    kinds = [_rank(tag) for tag in tags]
    ordered = all(a < b or a == b == 2 for a, b in pairwise(kinds))
    if None in (_LATER_TAGS.fullmatch(tag) and tag for tag in tags) or not ordered:
        return None
    return "-".join([first, *tags])


def _spelled(tag: str) -> str:
    if len(tag) == 4 and tag.isalpha():
        return tag.title()
    return tag.upper() if len(tag) == 2 else tag.lower()


def _rank(tag: str) -> int:
    return 0 if len(tag) == 4 and tag.isalpha() else 1 if len(tag) <= 3 else 2


def base(lang: str) -> str:
    """The language alone: `zh` of `zh-Hant`."""
    return re.split("[-_]", lang)[0]


def script(lang: str) -> str | None:
    """The script that a code names, `Hant` of `zh-Hant`; None where it names none."""
    return next((tag for tag in re.split("[-_]", lang)[1:] if re.fullmatch("[A-Z][a-z]{3}", tag)), None)


def same_writing(lang: str) -> str | None:
    """The language alone, where it is surely written as this code says: `pt` of `pt-BR`. None for a code with a script
    or a variant of its own, and for Chinese of places that write traditional characters: lists of phrases differ."""
    tags = re.split("[-_]", lang)[1:]
    plain = all(re.fullmatch(r"[A-Z]{2}|\d{3}", tag) for tag in tags)
    return base(lang) if plain and not (base(lang) == "zh" and set(tags) & set(_TRADITIONAL)) else None


def listed(lang: str, known: Collection[str]) -> str | None:
    """The code of a list that serves a language: its own, or that of the language without its region, `de` for `de-AT`.
    None where no list is of this writing."""
    plain = same_writing(lang)
    return lang if lang in known else plain if plain in known else None


def check_code(lang: str) -> str:
    """The one spelling of a language code that a person gave, `zh-Hant` of `zh_hant`: whatever takes a language calls
    this before anything is done. Raises `BadInput` for what is no code, with what it most likely meant."""
    found = canonical(lang)
    if found is None:
        hint = suggestion(lang) or "give an ISO 639 code such as en, be, zh-Hant"
        raise BadInput(f"{lang[:40]!r} is no language code", hint=hint)
    return found


def of_name(text: str) -> str | None:
    """The code of a language by its English name, case aside: `be` of `Belarusian`."""
    return next((code for code, name in ISO_639_1.items() if name.casefold() == text.strip().casefold()), None)


def suggestion(text: str, known: tuple[str, ...] = ()) -> str:
    """What a wrong code most likely meant: `did you mean 'be' (Belarusian)?`; empty where nothing is near."""
    low = text.strip().lower()
    if low in _NO_LANGUAGE:
        return f"{low!r} stands for {_NO_LANGUAGE[low]}"
    first = re.split("[-_ ]", low)[0]
    found = of_name(low) or of_name(first) or _COUNTRIES.get(first)
    if found is None and len(low) > 3:
        names = {name.casefold(): code for code, name in ISO_639_1.items()}
        close = difflib.get_close_matches(low, list(names), n=1, cutoff=0.75)
        found = names[close[0]] if close else None
    if found is None:
        close = difflib.get_close_matches(low, [each.lower() for each in known], n=1)
        found = next((each for each in known if close and each.lower() == close[0]), None)
    if found is None:
        return ""
    name = ISO_639_1.get(base(found))
    return f"did you mean {found!r}" + (f" ({name})?" if name else "?")
