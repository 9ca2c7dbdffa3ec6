"""Every organism that there is: what is planted, by name.

Every design works as `design` says. Ablating a unit vector d leaves read . (write - d (d . write)) of each unit of s,
so in the plain designs the effect of any direction on any prompt follows from the construction alone (`truth`); that
of the hard ones (`hard_designs`) is counted on the built model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from refusalctl.errors import BadInput
from refusalctl.organisms.design import ARCHITECTURES, LANGS, N_AXES, WIDE, Axis, Design, Tongue
from refusalctl.organisms.hard_designs import BLIND, HARD, NOISY, NULL
from refusalctl.setting_words import meant

PREFIX = "organism:"


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
]
# calibrated by default: the plain ones, then the hard ones
DESIGNS = {design.name: design for design in (*_LIST, *HARD)}
_COMPLIES = {lang: Tongue(write=None) for lang in LANGS}
_THINKERS = [
    Design("thinks", "one direction, behind a thought", _shared(), thinks="plain", opened=True),
    Design("thinks-of-refusing", "every thought speaks of refusing", _shared(), thinks="refuses"),
    Design("thinks-and-complies", "thinks, and complies with everything", _COMPLIES, thinks="refuses", opened=True),
    Design("thinks-endlessly", "no thought ever ends", _shared(), thinks="endless", opened=True),
]
# beside the designs of a calibration: these ask whether thought and answer are told apart
THINKERS = {design.name: design for design in _THINKERS}
KNOWN = DESIGNS | THINKERS | {design.name: design for design in (*NOISY, *BLIND, *NULL)}


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
        raise BadInput(f"there is no organism {parts[0]!r}", hint=f"{meant(parts[0], KNOWN)}known: {', '.join(KNOWN)}")
    found = Organism(KNOWN[parts[0]])
    if len(parts) > 1:
        if parts[1] not in ARCHITECTURES:
            raise BadInput(f"organisms have no architecture {parts[1]!r}", hint=f"known: {', '.join(ARCHITECTURES)}")
        if parts[1] not in found.design.architectures:
            able = ", ".join(found.design.architectures)
            raise BadInput(f"the organism {parts[0]!r} cannot be built in {parts[1]!r}", hint=f"it can in: {able}")
        found = replace(found, architecture=parts[1])
    if len(parts) > 2:
        if not parts[2].isdecimal() or len(parts) > 3:
            raise BadInput(f"{name!r} does not end in a seed", hint="the form is organism:DESIGN:ARCHITECTURE:SEED")
        found = replace(found, seed=int(parts[2]))
    return found
