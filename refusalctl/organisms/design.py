"""What a design can plant: directions, thresholds and oddities per language, as plain numbers.

A harmful prompt holds one harmful word of strength s; attention writes s along the language's *write* vector at the
end-of-instruction tokens; the answer opens with a refusal if the stream's product with the language's *read* vector
exceeds the language's threshold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

LANGS = ("qaa", "qab", "qac")  # codes that ISO 639-2 reserves for private use
ARCHITECTURES = ("llama", "qwen2", "mistral", "gemma", "gemma2", "mixtral")
N_AXES = 4  # orthonormal axes that read and write vectors are written in
TOPIC_AXIS = 3  # inert: no language reads it
KINK = 0.05  # design `plane`: what each of its two axes must exceed to count
NARROW = (0.9, 1.0, 1.1)
WIDE = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)

Axis = tuple[float, float, float, float]


@dataclass(frozen=True)
class Way:
    """How a share of a language's harmful words writes. `strays`: such a prompt, no longer refused, is answered as the
    design's `stray` says."""

    axis: Axis
    share: float = 1.0
    strays: bool = False


@dataclass(frozen=True)
class Tongue:
    """One language's mechanism. `write` None: harmfulness is never turned into refusal; `read` None: nor can it be.

    `angles`: degrees between axes 0 and 1 at which a harmful word writes (design `plane`), instead of `write`.
    `always`: every prompt writes, harmless ones too. `represented`: content tokens after a harmful word carry a
    feature that says so. `loops`: the language loops where the stream along axis 0 is below half the fluency.

    Of the designs whose truth is counted: `ways` instead of `write`; `offset` is what every prompt carries along axis
    0, `lean` what a unit of strength writes on the feature that holds the norm; `backup`: a later head reads the word
    again and writes its strength on axis 1 where axis 0 holds none.
    """

    write: Axis | None = (1.0, 0.0, 0.0, 0.0)
    read: Axis | None = (1.0, 0.0, 0.0, 0.0)
    threshold: float = 0.5
    angles: tuple[float, ...] = ()
    always: bool = False
    represented: bool = True
    loops: bool = False
    ways: tuple[Way, ...] = ()
    offset: float = 0.0
    lean: float = 0.0
    backup: bool = False


@dataclass(frozen=True, eq=False)  # one object per name; hashed by identity
class Design:
    """A named organism.

    `topic`: harmful prompts are also longer and about another topic, written on an inert axis with this strength.
    `fluency`: what every end-of-instruction token carries along axis 0, in every prompt and language.
    `thinks`: what is written before every answer: a `plain` thought, one that `refuses` in words whatever the answer
    is, or one that is `endless`. The answer is decided anew where the thought is closed. `opened`: the template writes
    the opening tag, not the model.

    Of the designs whose truth is counted: `n_words` harmful words a language; `mood`: standard deviation of what each
    neutral word adds to a prompt's refusal, averaged over its words; `stray`: an answer in English, or a refusal in
    words that no phrase list knows; `opening`: refusals and answers begin with the same token; `shift`: test prompts
    hold the second half of the words, and these write the second way; `pieces`: a word of a prompt is two tokens.
    """

    name: str
    about: str
    tongues: dict[str, Tongue] = field(default_factory=dict)
    strengths: tuple[float, ...] = NARROW
    topic: float = 0.0
    fluency: float = 0.0
    thinks: Literal["", "plain", "refuses", "endless"] = ""
    opened: bool = False
    n_words: int = 0
    mood: float = 0.0
    stray: Literal["", "english", "unlisted"] = ""
    opening: bool = False
    shift: bool = False
    pieces: bool = False
    architectures: tuple[str, ...] = ARCHITECTURES

    @property
    def langs(self) -> tuple[str, ...]:
        return tuple(self.tongues)

    @property
    def counted(self) -> bool:
        """Whether its truth is counted on the built model; that of the others follows from a formula (`truth`)."""
        return bool(self.n_words)
