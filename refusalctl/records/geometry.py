"""`geometry.json`: how alike the languages' directions are, and how far the classes of prompts lie apart.

Positions are negative, from the prompt's end; layers count from 0. Cosines are of difference-in-means directions
(harmful minus harmless). None: there is no direction, or no reliable one, so nothing was measured.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from refusalctl.records.record import Part, Record

Point = tuple[float, float]


class GeometryParameters(Part, frozen=True):
    """What was asked. `at` is (position, layer); None: where the least reliable language is most reliable."""

    reference: str
    at: tuple[int, int] | None
    halves: int
    permutations: int
    separation_permutations: int
    components: int
    seed: int

    @property
    def chosen_at(self) -> Literal["given", "most reliable"]:
        return "given" if self.at else "most reliable"


class CosineCurve(Part, frozen=True):
    """Cosine of two languages' directions at one position, by layer."""

    a: str
    b: str
    pos: int
    values: tuple[float | None, ...]


class ReliabilityCurve(Part, frozen=True):
    """Reliability of one language's directions at one position, by layer."""

    lang: str
    pos: int
    values: tuple[float | None, ...]


class Curves(Part, frozen=True):
    cosine: tuple[CosineCurve, ...]
    reliability: tuple[ReliabilityCurve, ...]


class LanguagePair(Part, frozen=True):
    """Two languages at one place.

    `ceiling`: the cosine that two noisy estimates of one direction would have. `apart`: mean cosine of halves that
    share no prompt; `disattenuated` the same corrected for noise, and may exceed 1. `null_95`: 95th percentile under
    shuffled labels; `p` one-sided, `p_by` adjusted over all pairs (Benjamini and Yekutieli). `angles`: principal angles
    of the difference subspaces in degrees, beside the shuffles' 5th percentile of their mean, and its p.
    """

    a: str
    b: str
    cosine: float
    ceiling: float | None
    apart: float
    disattenuated: float | None
    null_95: float
    p: float
    p_by: float
    angles: tuple[float, ...]
    angle_null_05: float
    angle_p: float


class PermutationTest(Part, frozen=True):
    """A statistic, its mean under shuffled labels, and one-sided p = (b + 1) / (B + 1)."""

    value: float
    null_mean: float
    p: float


class ActivationMap(Part, frozen=True):
    """Prompts on two principal components, and the share of variance that each explains."""

    harmful: tuple[Point, ...]
    harmless: tuple[Point, ...]
    explained: Point


class DirectionReliability(Part, frozen=True):
    """`half`: mean cosine between directions of disjoint halves; `full`: what it becomes with all prompts."""

    half: float
    full: float | None


class LanguageSeparation(Part, frozen=True):
    """How far harmful and harmless prompts lie apart in full space. None where all activations are the same, and for
    `reliability` where there is no direction."""

    auroc: PermutationTest | None
    silhouette: PermutationTest | None
    map: ActivationMap | None
    reliability: DirectionReliability | None


class LanguageProjection(Part, frozen=True):
    """Held-out prompts on the reference direction, where its own harmless prompts average 0 and its harmful ones 1."""

    harmful: tuple[float, ...]
    harmless: tuple[float, ...]
    auroc: float


class Projection(Part, frozen=True):
    """`languages` is empty where nothing could be projected, which `reason` then explains."""

    reference: str
    languages: dict[str, LanguageProjection]
    reason: str = ""


class Site(Part, frozen=True):
    """One position and layer. `projection` is None where the reference language has no direction."""

    pos: int
    layer: int
    no_direction: tuple[str, ...]
    pairs: tuple[LanguagePair, ...]
    languages: dict[str, LanguageSeparation]
    projection: Projection | None


class Sites(Part, frozen=True):
    """The refusal direction's place, and the last instruction token at the same layer, where harmfulness is read."""

    refusal: Site
    harmfulness: Site

    def by_name(self) -> dict[str, Site]:
        return {"refusal": self.refusal, "harmfulness": self.harmfulness}


class LanguageGeometry(Record, frozen=True):
    """`n`: train prompts by language and class. `harmfulness_to_refusal`: cosine of the two sites' directions, by
    language."""

    FORMAT: ClassVar[str] = "geometry"
    FILE: ClassVar[str] = "geometry.json"

    settings: GeometryParameters
    langs: tuple[str, ...]
    n: dict[str, dict[Literal["harmful", "harmless"], int]]
    same_prompts: bool
    positions: tuple[int, ...]
    inst_position: int
    suffix_tokens: tuple[str, ...]
    n_layers: int
    d_model: int
    curves: Curves
    sites: Sites
    harmfulness_to_refusal: dict[str, float | None]
