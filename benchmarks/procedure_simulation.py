"""Family-wise error of the whole procedure under the global null: selection, controls, limits and step-down max-T.

    python -m benchmarks.procedure_simulation [--experiments 2000]

In every simulated experiment the "refusal directions" are directions like any other: each source has `candidates` of
them, drawn by the same law as its control directions, and keeps the one that does most on the source's validation
prompts. Languages are fragile: at the same damage a middling direction already removes 12 % of refusals, so that the
behaviour of a better one often clears the margin, and only the controls stand between the data and a false "transfers".
What is counted: matrices with at least one transferred cell that is called so.

`alike` is the correlation of what one direction does in two languages. At 0 the choice in the source tells nothing of
the target. Above 0 it favours directions that do more in every language: draws that nobody chose are then no match for
a chosen direction, on whatever prompts they are compared; draws that are searched over the same places are. Of those,
`places` are scored, that look best to first order; `trust` is the correlation of this estimate with the score.
"""

from __future__ import annotations

import sys
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from benchmarks import command
from benchmarks.verdict_simulation import ORDER, verdicts, with_error
from refusalctl.stats.max_t import step_down

SEED = 20261127
N_TEST, N_VAL, N_CONTROL = 128, 32, 16  # prompts: behaviour, selection, scores beside controls
DRAWS = 39
TRUSTED = 0.8  # from here on scoring the best to first order keeps the promise
SPREAD = 1.0  # log-odds: of directions' effects, and of single prompts around them
REFUSED = 0.9  # at baseline
MIDDLING = 0.12  # removed by a direction of mean effect
TRANSFERS = ORDER.index("transfers")
Array = npt.NDArray[np.float64]


class Design(NamedTuple):
    """`places`: that are scored of every draw, of as many candidates as the real direction was chosen among; `trust` 0
    takes them blindly. `near`: correlation of neighbouring candidates, as of one direction read in two layers that
    follow each other."""

    n_languages: int
    candidates: int
    alike: float
    places: int
    near: float = 0.0
    trust: float = 0.0


class Found(NamedTuple):
    """Shares of matrices with at least one false transfer: by the limits alone, by the controls alone, by both."""

    limits: float
    controls: float
    both: float


DESIGNS = [
    Design(*each) for each in product((3, 6), (1, 4, 16), (0.0, 0.5), (1, 16)) if each[1] > 1 or each[3] == 1
] + [
    Design(n, 110, 0.5, places, near, trust)
    for n in (3, 6)
    for near in (0.0, 0.9)
    for places, trust in ((16, 0.0), (4, 0.8), (4, 0.95), (16, 0.6), (16, 0.8), (16, 0.95), (110, 0.0))
]


def effects(design: Design, n: int, generator: np.random.Generator) -> Array:
    """What n directions do in each language at every candidate's place [n, candidates, n_languages] (log-odds)."""
    size = (n, design.candidates)
    shared, own = generator.normal(size=(*size, 1)), generator.normal(size=(*size, design.n_languages))
    if design.near:
        for part in (shared, own):
            for i in range(1, design.candidates):
                part[:, i] = design.near * part[:, i - 1] + (1 - design.near**2) ** 0.5 * part[:, i]
    found: Array = SPREAD * (design.alike**0.5 * shared + (1 - design.alike) ** 0.5 * own)
    return found


def measured(true: Array, prompts: int, generator: np.random.Generator) -> Array:
    """Mean drops of the refusal score over so many prompts."""
    found: Array = true + SPREAD * generator.normal(size=true.shape) / prompts**0.5
    return found


def removed_share(true: Array) -> Array:
    """Of refused prompts: those whose score falls below 0 by this effect; prompts lie normally around it."""
    found: Array = np.asarray(norm.cdf(norm.ppf(MIDDLING) + true / (2**0.5 * SPREAD)))
    return found


def chosen(design: Design, n: int, places: int, source: int, generator: np.random.Generator) -> Array:
    """Effects [n, n_languages] of n directions, each at the best of its places on the source's validation prompts."""
    found = effects(design, n, generator)
    scores = measured(found[:, :, source], N_VAL, generator)
    if places < design.candidates:
        size = SPREAD * (1 + 1 / N_VAL) ** 0.5
        guess = design.trust * scores / size + (1 - design.trust**2) ** 0.5 * generator.normal(size=scores.shape)
        left_out = np.argsort(guess, axis=1)[:, : design.candidates - places]
        np.put_along_axis(scores, left_out, -np.inf, axis=1)
    best: Array = found[np.arange(n), scores.argmax(1)]
    return best


def experiment(design: Design, generator: np.random.Generator) -> tuple[Array, Array]:
    """One matrix: per transferred cell the share that its direction removes, and the adjusted p beside the draws."""
    real, null, shares = [], [], []
    for source in range(design.n_languages):
        targets = [t for t in range(design.n_languages) if t != source]
        own = chosen(design, 1, design.candidates, source, generator)[0, targets]
        draws = chosen(design, DRAWS, design.places, source, generator)
        real.append(measured(own, N_CONTROL, generator))
        null.append(measured(draws[:, targets], N_CONTROL, generator))
        shares.append(removed_share(own))
    return np.concatenate(shares), np.array(step_down(list(np.concatenate(real)), np.hstack(null)))


def behaviour(shares: Array, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Whether each cell's limits clear the margin, in answers to `N_TEST` prompts."""
    kinds = ["RCC", "RRC", "CCC"]
    flat = shares.ravel()
    drawn = [
        generator.multinomial(N_TEST, (REFUSED * share, REFUSED * (1 - share), 1 - REFUSED)).astype(float)
        for share in flat
    ]
    return np.asarray(verdicts(np.array(drawn), kinds, N_TEST) == TRANSFERS).reshape(shares.shape)


def family_wise(design: Design, experiments: int, generator: np.random.Generator) -> Found:
    told = [experiment(design, generator) for _ in range(experiments)]
    cleared = behaviour(np.array([shares for shares, _p in told]), generator)
    beaten = np.array([p for _shares, p in told]) <= 0.05
    return Found(*(float(each.any(1).mean()) for each in (cleared, beaten, cleared & beaten)))


def main() -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--experiments", type=int, default=2_000, help="matrices per row")
    args = parser.parse_args()
    generator = np.random.default_rng(SEED)
    print(
        "| languages | candidates | neighbours | alike | scored of a draw | trust | limits | controls | both: verdict |"
    )
    print("|" + "---|" * 9)
    met = True
    for design in DESIGNS:
        found = family_wise(design, args.experiments, generator)
        if design.places >= design.candidates or design.trust >= TRUSTED:  # otherwise the excess is what is measured
            met &= found.both <= 0.05 + 3 * (0.05 * 0.95 / args.experiments) ** 0.5
        columns = " | ".join(with_error(share, args.experiments) for share in found)
        scored = min(design.places, design.candidates)
        of = (design.n_languages, design.candidates, design.near, design.alike, scored, design.trust)
        print("| " + " | ".join(f"{each:g}" for each in of) + f" | {columns} |")
    print(f"\npromises {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
