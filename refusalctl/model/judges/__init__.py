"""Judges: completions to outcomes. One file each, behind `protocol.Judge`."""

from __future__ import annotations

from refusalctl.errors import BadInput
from refusalctl.model.judges import (
    harmbench,
    llamaguard,
    openai_compatible,
    polyguard,
    qwen3guard,
    refusal_classifiers,
    strongreject,
    substring,
    wildguard,
)
from refusalctl.model.judges.classifier import ClassifierJudge
from refusalctl.model.judges.endpoint import EndpointJudge, named_model
from refusalctl.model.judges.generative import GenerativeJudge
from refusalctl.model.judges.protocol import Declaration, Judge
from refusalctl.model.judges.weights import Settings, find
from refusalctl.setting_words import meant

_FORMATS = {
    wildguard.DECLARATION: wildguard.FORMAT,
    **dict.fromkeys(qwen3guard.DECLARATIONS, qwen3guard.FORMAT),
    **dict.fromkeys(polyguard.DECLARATIONS, polyguard.FORMAT),
    llamaguard.DECLARATION_3: llamaguard.FORMAT_3,
    llamaguard.DECLARATION_4: llamaguard.FORMAT_4,
    harmbench.DECLARATION: harmbench.FORMAT,
}
_ENCODERS = (refusal_classifiers.MINOS, refusal_classifiers.E5, refusal_classifiers.MMBERT)
_QUESTIONS = {
    openai_compatible.DECLARATION: openai_compatible.QUESTION,
    strongreject.DECLARATION: strongreject.QUESTION,
}
_ALL = {d.name: d for d in (substring.DECLARATION, *_FORMATS, *_ENCODERS, *_QUESTIONS)}
NAMES = tuple(_ALL)


def declarations() -> list[Declaration]:
    return list(_ALL.values())


def declared(spec: str) -> Declaration:
    """The declaration of `NAME` or `NAME=MODEL`. Raises `BadInput` for a name that is no judge."""
    name = spec.partition("=")[0]
    if name not in _ALL:
        raise BadInput(
            f"there is no judge {name!r}", hint=f"{meant(name, NAMES)}known: {', '.join(NAMES)}; see `judge --list`"
        )
    return _ALL[name]


def judge_named(spec: str, settings: Settings | None = None) -> Judge:
    """A judge by `NAME` or `NAME=MODEL`, its weights found but not loaded.

    MODEL is a local folder or hub id instead of the declared one; for an endpoint, its model's name. Raises
    `BadInput` for an unknown name, `ModelError` saying what to request or install.
    """
    declaration, settings = declared(spec), settings or Settings()
    model = spec.partition("=")[2] or None
    if declaration in _QUESTIONS:
        question, name = _QUESTIONS[declaration], named_model(declaration, model)
        return EndpointJudge(declaration, question, name, settings).check()
    if declaration in _FORMATS:
        return GenerativeJudge(declaration, _FORMATS[declaration], find(declaration, model), settings)
    if declaration in _ENCODERS:
        render = refusal_classifiers.RENDERS[declaration.name]
        return ClassifierJudge(declaration, render, find(declaration, model), settings)
    if model:
        raise BadInput(f"the judge {declaration.name!r} has no model to choose")
    return substring.SubstringJudge()
