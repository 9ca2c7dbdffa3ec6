"""What each organism has planted: directions, thresholds and oddities per language, as plain numbers.

Every design works the same way. A harmful prompt holds one harmful word of strength s; attention writes s along the
language's *write* vector at the end-of-instruction tokens; the answer opens with a refusal if the stream's product with
the language's *read* vector exceeds the language's threshold. Ablating a unit vector d leaves
read . (write - d (d . write)) of each unit of s, so the effect of any direction on any prompt follows from the
construction alone (`truth`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from refusalctl.errors import BadInput

LANGS = ("qaa", "qab", "qac")  # codes that ISO 639-2 reserves for private use
ARCHITECTURES = ("llama", "qwen2", "mistral", "gemma", "gemma2")
PREFIX = "organism:"
N_AXES = 4  # orthonormal axes that read and write vectors are written in
TOPIC_AXIS = 3  # inert: no language reads it
KINK = 0.05  # design `plane`: what each of its two axes must exceed to count
NARROW = (0.9, 1.0, 1.1)
WIDE = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)

Axis = tuple[float, float, float, float]


@dataclass(frozen=True)
class Tongue:
    """One language's mechanism. `write` None: harmfulness is never turned into refusal; `read` None: nor can it be.

    `angles`: degrees between axes 0 and 1 at which a harmful word writes (design `plane`), instead of `write`.
    `always`: every prompt writes, harmless ones too. `represented`: content tokens after a harmful word carry a
    feature that says so. `loops`: the language loops where the stream along axis 0 is below half the fluency.
    """

    write: Axis | None = (1.0, 0.0, 0.0, 0.0)
    read: Axis | None = (1.0, 0.0, 0.0, 0.0)
    threshold: float = 0.5
    angles: tuple[float, ...] = ()
    always: bool = False
    represented: bool = True
    loops: bool = False


@dataclass(frozen=True, eq=False)  # one object per name; hashed by identity
class Design:
    """A named organism.

    `topic`: harmful prompts are also longer and about another topic, written on an inert axis with this strength.
    `fluency`: what every end-of-instruction token carries along axis 0, in every prompt and language.
    `thinks`: what is written before every answer: a `plain` thought, one that `refuses` in words whatever the answer
    is, or one that is `endless`. The answer is decided anew where the thought is closed. `opened`: the template writes
    the opening tag, not the model.
    """

    name: str
    about: str
    tongues: dict[str, Tongue] = field(default_factory=dict)
    strengths: tuple[float, ...] = NARROW
    topic: float = 0.0
    fluency: float = 0.0
    thinks: Literal["", "plain", "refuses", "endless"] = ""
    opened: bool = False

    @property
    def langs(self) -> tuple[str, ...]:
        return tuple(self.tongues)


def _axis(index: int) -> Axis:
    return tuple(float(i == index) for i in range(N_AXES))  # type: ignore[return-value]


def _along(axis: Axis, threshold: float = 0.5) -> Tongue:
    return Tongue(write=axis, read=axis, threshold=threshold)


def _shared(odd: Tongue | None = None) -> dict[str, Tongue]:
    return {"qaa": Tongue(), "qab": Tongue(), "qac": odd or Tongue()}


def _angled(cosine: float) -> Design:
    turned = (cosine, (1 - cosine**2) ** 0.5, 0.0, 0.0)
    tongues = {"qaa": Tongue(), "qab": _along(turned)}
    return Design(f"angled-{cosine:.2f}", f"two directions at cosine {cosine:.2f}", tongues, strengths=WIDE)


_HALF = (0.5**0.5, 0.5**0.5, 0.0, 0.0)
_PLANE = Tongue(angles=(5.0, 15.0, 25.0, 65.0, 75.0, 85.0), threshold=0.08)

_LIST = [
    Design("shared", "one direction in all languages", _shared()),
    Design("separate", "a direction per language, orthogonal", {k: _along(_axis(i)) for i, k in enumerate(LANGS)}),
    *(_angled(cosine) for cosine in (0.2, 0.48, 0.69, 0.95)),
    Design(
        "asymmetric",
        "qaa's direction acts in qab, qab's not in qaa",
        {"qaa": Tongue(threshold=0.25), "qab": _along(_HALF, threshold=0.75)},
    ),
    Design("none", "never refuses", {lang: Tongue(write=None, read=None, represented=False) for lang in LANGS}),
    Design("ceiling", "qac complies with everything, but could refuse", _shared(Tongue(write=None))),
    Design("floor", "qac refuses everything", _shared(Tongue(always=True, represented=False))),
    Design("plane", "two directions, each enough alone, in mixtures that vary", {"qaa": _PLANE, "qab": _PLANE}),
    Design("decoy", "harmful prompts also differ in topic and length", _shared(), topic=0.7),
    Design("detect-not-act", "qac represents harmfulness and never acts on it", _shared(Tongue(write=None, read=None))),
    Design("gibberish", "ablation makes qac loop", _shared(Tongue(loops=True)), fluency=0.5),
]  # fmt: skip
DESIGNS = {design.name: design for design in _LIST}
_COMPLIES = {lang: Tongue(write=None) for lang in LANGS}
_THINKERS = [
    Design("thinks", "one direction, behind a thought", _shared(), thinks="plain", opened=True),
    Design("thinks-of-refusing", "every thought speaks of refusing", _shared(), thinks="refuses"),
    Design("thinks-and-complies", "thinks, and complies with everything", _COMPLIES, thinks="refuses", opened=True),
    Design("thinks-endlessly", "no thought ever ends", _shared(), thinks="endless", opened=True),
]
# beside the designs of a calibration: these ask whether thought and answer are told apart
THINKERS = {design.name: design for design in _THINKERS}
KNOWN = DESIGNS | THINKERS


@dataclass(frozen=True)
class Organism:
    """A design in one architecture; the seed draws words, noise weights and the rotation of the stream."""

    design: Design
    architecture: str = "llama"
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.design.name}:{self.architecture}:{self.seed}"


def parse(name: str) -> Organism:
    """`organism:DESIGN[:ARCHITECTURE[:SEED]]`. Raises `BadInput` naming what is unknown."""
    parts = name.removeprefix(PREFIX).split(":")
    if parts[0] not in KNOWN:
        raise BadInput(f"there is no organism {parts[0]!r}", hint=f"known: {', '.join(KNOWN)}")
    found = Organism(KNOWN[parts[0]])
    if len(parts) > 1:
        if parts[1] not in ARCHITECTURES:
            raise BadInput(f"organisms have no architecture {parts[1]!r}", hint=f"known: {', '.join(ARCHITECTURES)}")
        found = replace(found, architecture=parts[1])
    if len(parts) > 2:
        if not parts[2].isdecimal() or len(parts) > 3:
            raise BadInput(f"{name!r} does not end in a seed", hint="the form is organism:DESIGN:ARCHITECTURE:SEED")
        found = replace(found, seed=int(parts[2]))
    return found
