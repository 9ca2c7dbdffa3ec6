"""A judge's errors against people's labels of a stratified sample, and rates corrected for them."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

from refusalctl.errors import BadInput
from refusalctl.stats.rates import Interval

MIN_LABELS = 10  # people's labels of either kind below which sensitivity or specificity is no basis for anything


class SampleCell(NamedTuple):
    """One stratum of the sample crossed with what one judge said: the judge's verdict, the stratum's completions per
    labelled one (`weight`, at least 1), people's labels in the cell, and how many of them are positive."""

    judged: bool
    weight: float
    n: int
    positive: int


class Share(NamedTuple):
    """A sensitivity or specificity: `n` is the labels behind it, `effective` what they are worth as a plain sample."""

    value: float
    interval: Interval
    n: int
    effective: float


class JudgeErrors(NamedTuple):
    sensitivity: Share
    specificity: Share

    @property
    def youden(self) -> float:
        return self.sensitivity.value + self.specificity.value - 1


class CorrectedRate(NamedTuple):
    """`value` and `interval` lie in [0, 1]; `raw` is the estimate before it was cut to that."""

    value: float
    interval: Interval
    raw: float


def errors(cells: Sequence[SampleCell], alpha: float = 0.05) -> JudgeErrors:
    """Sensitivity and specificity, weighted by the sampling design.

    The sample is drawn by what a judge said, so plain shares would be biased (Begg and Greenes 1983, Biometrics
    39:207): each label stands for `weight` completions. Intervals: each cell's share of positives has its Jeffreys
    posterior, the ratio its first-order variance, and the interval is that of the beta distribution with this mean and
    variance. A cell without a positive so widens the interval, where resampling would give it no width. Raises
    `BadInput` below `MIN_LABELS` positive or negative labels.
    """
    positives, negatives = sum(c.positive for c in cells), sum(c.n - c.positive for c in cells)
    for what, n in (("positive", positives), ("negative", negatives)):
        if n < MIN_LABELS:
            raise BadInput(
                f"people gave {n} {what} labels, expected at least {MIN_LABELS}", hint="have more completions labelled"
            )
    flipped = [SampleCell(not c.judged, c.weight, c.n, c.n - c.positive) for c in cells]
    return JudgeErrors(_share(cells, positives, alpha), _share(flipped, negatives, alpha))


def _share(cells: Sequence[SampleCell], n: int, alpha: float) -> Share:
    """Weighted share of positive completions that the judge calls positive."""
    from scipy.stats import beta

    hit, missed = (sum(c.weight * c.positive for c in cells if c.judged is said) for said in (True, False))
    value = hit / (hit + missed)
    mean, spread = _posterior(cells)
    size = mean * (1 - mean) / spread - 1  # a + b of the beta distribution
    low, high = (float(x) for x in beta.ppf([alpha / 2, 1 - alpha / 2], mean * size, (1 - mean) * size))
    low, high = (0.0 if hit == 0 else min(low, value)), (1.0 if missed == 0 else max(high, value))
    return Share(value, Interval(low, high), n, max(size - 1, 1.0))


def _posterior(cells: Sequence[SampleCell]) -> tuple[float, float]:
    """Mean and variance of the share (delta method): a cell's positives have their Jeffreys posterior, and how many
    completions fell into the cell is a Poisson count of its own, so that a plain sample is worth its size."""
    total, spread = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    for cell in cells:
        a, b = cell.positive + 0.5, cell.n - cell.positive + 0.5
        stands_for = cell.weight * cell.n
        share = a / (a + b)
        total[cell.judged] += stands_for * share
        spread[cell.judged] += stands_for**2 * share * (1 - share) / (a + b + 1) + stands_for * share**2
    hit, missed = total[True], total[False]
    mean = hit / (hit + missed)
    if not 0 < mean < 1:
        raise BadInput("the judge gives one verdict on all labelled completions: its errors cannot be estimated")
    return mean, (missed**2 * spread[True] + hit**2 * spread[False]) / (hit + missed) ** 4


def corrected(count: int, n: int, found: JudgeErrors, alpha: float = 0.05) -> CorrectedRate:
    """A rate of `count` in `n` by the judge, corrected for its errors.

    Estimate: (rate + specificity - 1) / (sensitivity + specificity - 1) (Rogan and Gladen 1978, American Journal of
    Epidemiology 107:71). Interval: Lang and Reiczigel 2014, Preventive Veterinary Medicine 113:13, equations 6 to 17,
    which carries the uncertainty of sensitivity and specificity; the same as Lee et al. 2025, arXiv 2511.21140. Their
    numbers of calibration labels are the effective ones here. Raises `BadInput` when the judge is not shown to tell
    the two apart better than chance, and when no rate between 0 and 1 fits what it said.
    """
    if n <= 0 or not 0 <= count <= n:
        raise BadInput(f"a rate of {count} in {n} does not exist")
    if not better_than_chance(found):
        raise BadInput(
            f"the judge is not shown to be better than chance (sensitivity + specificity - 1 = {found.youden:.2f})",
            hint="use another judge, or have more completions labelled",
        )
    raw = (count / n + found.specificity.value - 1) / found.youden
    low, high = _lang_reiczigel(count, n, found.sensitivity, found.specificity, alpha)
    if high < 0 or low > 1:
        raise BadInput(
            f"a rate of {count} in {n} does not fit errors like these: the judge errs differently on these completions",
            hint="have completions of this very condition labelled",
        )
    value = min(max(raw, 0.0), 1.0)
    return CorrectedRate(value, Interval(min(max(low, 0.0), value), max(min(high, 1.0), value)), raw)


def better_than_chance(found: JudgeErrors) -> bool:
    """Whether the lower limit of Youden's index, from the limits of its two parts (Newcombe's square-and-add), is
    above 0."""
    parts = (found.sensitivity, found.specificity)
    below = sqrt(sum((share.value - share.interval.low) ** 2 for share in parts))
    return found.youden - below > 0


def _lang_reiczigel(count: int, n: int, se: Share, sp: Share, alpha: float) -> tuple[float, float]:
    from scipy.stats import norm

    z = float(norm.isf(alpha / 2))
    size = n + z * z
    rate = (count + z * z / 2) / size
    n_se, n_sp = se.effective + 2, sp.effective + 2
    a, b = (se.effective * se.value + 1) / n_se, (sp.effective * sp.value + 1) / n_sp
    gain = a + b - 1
    if gain <= 0:
        raise BadInput("the judge is not shown to be better than chance", hint="have more completions labelled")
    centre = (rate + b - 1) / gain
    noise_se, noise_sp = a * (1 - a) / n_se, b * (1 - b) / n_sp
    shift = 2 * z * z * (centre * noise_se - (1 - centre) * noise_sp)
    variance = (rate * (1 - rate) / size + centre**2 * noise_se + (1 - centre) ** 2 * noise_sp) / gain**2
    return centre + shift - z * sqrt(variance), centre + shift + z * sqrt(variance)
