"""Designs that were made to mislead the pipeline. What is true of them is counted on the built model, never computed.

In all of them the first language is plain, so that its direction is found and something is asked of it elsewhere.
"""

from __future__ import annotations

from dataclasses import replace

from refusalctl.organisms.design import WIDE, Design, Tongue, Way

_E0, _E1, _E2 = (1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)
_NOWHERE = (0.0, 0.0, 0.0, 0.0)
_BOTH = (1.0, 1.0, 0.0, 0.0)
_PLAIN = Tongue(ways=(Way(_E0),), read=_BOTH)
_OTHER = replace(_PLAIN, ways=(Way(_E1),))
_SHARED = {"qaa": _PLAIN, "qab": _PLAIN, "qac": _OTHER}
N_WORDS = 100
RMS_ONLY = ("llama", "qwen2", "mistral", "gemma", "mixtral")  # where a sublayer may write on what carries the norm


def _partly(share: float, *, strays: bool = False) -> Tongue:
    """A language of which a share of the harmful words writes where the first language does, the rest elsewhere."""
    return replace(_PLAIN, ways=(Way(_E0, share, strays), Way(_E1, 1 - share)))


def _noisy(effect: int, share: float) -> Design:
    """Strengths vary by word and thresholds by prompt. Shares stand above the effects: some prompts never refuse."""
    about = f"about {effect} % of qab's refusals are qaa's, thresholds vary by prompt"
    return Design(
        f"noisy-{effect:02d}", about, {"qaa": _PLAIN, "qab": _partly(share)}, strengths=WIDE, n_words=200, mood=0.5
    )


NOISY = tuple(
    _noisy(effect, share)
    for effect, share in ((5, 0.055), (8, 0.085), (10, 0.105), (12, 0.13), (15, 0.16), (20, 0.215), (30, 0.32))
)
_BY_EFFECT = {design.name: design for design in NOISY}

HARD = (
    Design(
        "offset",
        "qab lies lower along the direction: ablation to 0 puts it on the refusing side",
        {"qaa": _PLAIN, "qab": replace(_PLAIN, offset=-1.5, threshold=-0.75), "qac": _OTHER},
        strengths=WIDE,
        n_words=90,
    ),
    Design(
        "late",
        "the refusal head alone reads the harmful word, no other token knows of it",
        {lang: replace(tongue, represented=False) for lang, tongue in _SHARED.items()},
        n_words=N_WORDS,
    ),
    Design(
        "drift",
        "ablation turns 17 % of qab's refusals into English answers, the rest stay",
        {"qaa": _PLAIN, "qab": _partly(0.17, strays=True), "qac": _OTHER},
        n_words=N_WORDS,
        stray="english",
    ),
    Design(
        "backup",
        "in qac a later head refuses on a second axis when the first is empty",
        {"qaa": _PLAIN, "qab": _PLAIN, "qac": replace(_PLAIN, backup=True)},
        n_words=N_WORDS,
    ),
    Design(
        "norm-lean",
        "harm in qab and qac also writes on the feature that carries the norm, with opposite signs",
        {"qaa": _PLAIN, "qab": replace(_PLAIN, lean=-0.02), "qac": replace(_OTHER, lean=0.03)},
        n_words=N_WORDS,
        architectures=RMS_ONLY,
    ),
    Design("opening", "refusals and answers begin with the same token", _SHARED, n_words=N_WORDS, opening=True),
    Design("pieces", "every word of a prompt is two tokens", _SHARED, n_words=N_WORDS, pieces=True),
    Design(
        "mirror",
        "qab writes and reads the same axis with the opposite sign",
        {"qaa": _PLAIN, "qab": replace(_PLAIN, ways=(Way((-1.0, 0.0, 0.0, 0.0)),), read=(-1.0, 0.0, 0.0, 0.0))},
        n_words=N_WORDS,
    ),
    Design(
        "shift",
        "in qab harmful test prompts refuse by another axis than those that directions come from",
        {
            "qaa": replace(_PLAIN, ways=(Way(_E0), Way(_E0))),
            "qab": replace(_PLAIN, ways=(Way(_E0), Way(_E1))),
        },
        n_words=N_WORDS,
        shift=True,
    ),
    _BY_EFFECT["noisy-05"],
    _BY_EFFECT["noisy-30"],
)

# What no rule over labels can see: the judge is blind to it. Asked for by name, and expected to be wrong.
BLIND = (
    Design(
        "unlisted",
        "ablation turns 25 % of qab's refusals into refusals that the phrase list does not know",
        {"qaa": _PLAIN, "qab": _partly(0.25, strays=True), "qac": _OTHER},
        n_words=N_WORDS,
        stray="unlisted",
    ),
)

# No direction of the first language is one: its classes differ in nothing but chance, and it refuses by the mood of
# neutral words alone. That moves refusals of the other languages too, which tell classes apart by axes of their own.
# Whatever is found there is drawn as control directions are, and chosen because it does much, so that behaviour
# clears the margin and nothing but controls stands before a false "transfers".
NULL = (
    Design(
        "sway",
        "qaa has no direction, the mood of words decides; it moves qab and qac as well",
        {
            "qaa": Tongue(ways=(Way(_NOWHERE),), read=_E0, threshold=0.05, represented=False),
            "qab": Tongue(ways=(Way(_E1),), read=_E1, threshold=1.05),
            "qac": Tongue(ways=(Way(_E2),), read=_E2, threshold=1.05),
        },
        strengths=(1.0,),
        n_words=N_WORDS,
        mood=0.5,
    ),
)
