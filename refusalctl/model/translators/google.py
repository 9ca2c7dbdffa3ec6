"""Google's public translation page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refusalctl.errors import ModelError
from refusalctl.model.translators.protocol import Outcome, outcome

CODES = {"zh": "zh-CN"}  # all others are the language's own code


@dataclass
class Google:
    """Google's public translation page, through deep_translator, one text per request."""

    target: Any
    name: str = "google"
    batch: int = 1

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        return [self._one(text) for _, text in pairs]

    def _one(self, text: str) -> Outcome:
        import requests
        from deep_translator.exceptions import BaseError, RequestError, TooManyRequests

        try:
            return outcome(self.target.translate(text))
        except BaseError as error:  # this text has no translation; the next may have
            return Outcome(None, type(error).__name__)
        except (TooManyRequests, RequestError, requests.RequestException) as error:
            raise ModelError(
                f"Google's translation service does not answer ({type(error).__name__})",
                hint="run the same command again later; finished rows are kept",
            ) from error


def open_google(lang: str, code: str | None = None, source: str = "en") -> Google:
    """From `source` into `lang`; `code` is Google's own code of whichever is not English.

    Raises `ModelError` when deep_translator is not installed or does not know the language.
    """
    try:
        from deep_translator import GoogleTranslator
        from deep_translator.exceptions import BaseError
    except ImportError as error:
        raise ModelError(
            "the translator 'google' needs the package deep-translator",
            hint="run `pip install refusalctl[translate]`",
        ) from error
    try:
        ends = ["en" if each == "en" else code or CODES.get(each, each) for each in (source, lang)]
        return Google(GoogleTranslator(source=ends[0], target=ends[1]))
    except BaseError as error:
        other = source if lang == "en" else lang
        raise ModelError(
            f"deep-translator does not offer {other!r} at Google", hint="use --translator nllb:MODEL or file:FILE"
        ) from error
