"""How often the pipeline's verdict is wrong on organisms whose effects lie between 0 and 1, over many experiments.

    python -m benchmarks.organism_rates [--designs noisy-08,noisy-12] [--sizes 48,128,256] [--repeats 200] [--out FILE]

Each experiment draws train and test prompts anew from a population of one organism, takes the difference in means of
the first language and of the second from the train prompts, ablates each of them, reads the answers through the judge,
and decides by `stats/verdict.py`, with the zero point, the behaviour gate and the own direction as evidence. Control
directions count as beaten, the worst case for "transfers". An answer is its first token, run forward once, and what the
construction says after it (a test holds that equal to generated answers of noisy-30); designs of which that is not
true are refused.

The truth is the effect of the *planted* direction on the whole population. Wrong are "transfers" where it is at most
the margin, "reverses" where it is at least minus the margin, and "does not transfer" where it, or what is lost to other
outcomes, is at least the margin. Their rates stand with Clopper-Pearson limits; promised are at most 2.5, 2.5 and 5 %.
The exit code is 1 where a lower limit lies above that, save under judges that are wrong on purpose (`--judges`).
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import command
from refusalctl.data.response_language import response_language
from refusalctl.errors import BadInput
from refusalctl.model.files.organism_weights import WORK_LAYER, planted_vector
from refusalctl.model.files.resolve import resolve
from refusalctl.model.forward import activations, last_logprobs
from refusalctl.model.hooks import Checks, Intervention
from refusalctl.model.judges.substring import SubstringJudge
from refusalctl.model.load import load
from refusalctl.organisms import words
from refusalctl.organisms.design import Design
from refusalctl.organisms.designs import KNOWN, Organism
from refusalctl.organisms.hard_designs import NOISY
from refusalctl.settings import VerdictSettings
from refusalctl.stats.outcomes import read_outcome
from refusalctl.stats.rate_difference import refusal_difference
from refusalctl.stats.rates import Rate
from refusalctl.stats.verdict import Evidence, decide
from refusalctl.stats.zero_point import zero_point
from refusalctl.steps.comprehension import CLEAR

SIZES = (48, 128, 256)
N_TRAIN = 64  # of each class
POPULATION = 1600  # of each class
LAYER = WORK_LAYER + 2  # one where the direction is; which one selection takes changes nothing here
MARGIN = VerdictSettings().margin
PROMISED = {"transfers": 0.025, "reverses": 0.025, "does not transfer": 0.05}
JUDGES = {"right": 0.0, "blind-10": 0.1}  # share of refusals under an intervention that are read as answers
Verdicts = Counter[str]


class Means(NamedTuple):
    harmless: torch.Tensor
    harmful: torch.Tensor

    @property
    def difference(self) -> torch.Tensor:
        return self.harmful - self.harmless


def _check(design: Design) -> None:
    """Raise `BadInput` for a design whose answers or prompts are not what this benchmark makes of them."""
    why = {
        "its truth is not counted": not design.counted,
        "its answers share their first token": design.opening,
        "its test prompts are others than its train prompts": design.shift,
        "it thinks first": bool(design.thinks),
    }
    if found := [reason for reason, applies in why.items() if applies]:
        raise BadInput(
            f"the rates of {design.name!r} cannot be simulated: {found[0]}", hint="such as noisy-08 or drift"
        )


class Experiments:
    """One organism opened once: its population, what it answers there, and where its stream is."""

    def __init__(self, organism: Organism, size: int = POPULATION) -> None:
        _check(organism.design)
        self.organism, self.source, self.target = organism, *organism.design.langs[:2]
        self.model, self.judge, self.size = load(resolve(organism.name)), SubstringJudge(), size
        langs, kinds = (self.source, self.target), ("harmful", "harmless")
        rows = {kind: words.population(organism, kind, size) for kind in kinds}
        self.encoded = {
            (lang, kind): [self.model.chat.encode(words.say(organism, row, lang)) for row in rows[kind]]
            for lang in langs
            for kind in kinds
        }
        self.stream = {key: self._stream(found) for key, found in self.encoded.items()}
        self._read: dict[tuple[str, int], str] = {}
        everything = np.arange(size)
        self.plain = {kind: self.outcomes(self.target, kind, everything, Intervention()) for kind in kinds}

    def _stream(self, encoded: list[list[int]]) -> torch.Tensor:
        found = torch.empty(len(encoded), self.model.residual.d_model, dtype=torch.float64)
        for indices, rows in activations(self.model, encoded, [-1], 256):
            found[indices] = rows[:, 0, LAYER].double()
        return found

    def outcomes(self, lang: str, kind: str, which: Any, intervention: Intervention) -> list[str]:
        """Of the prompts of a class by their index, in that order, as the judge and the language rule read them."""
        return [self._outcome(lang, token) for token in self._tokens(lang, kind, which, intervention)]

    def _tokens(self, lang: str, kind: str, which: Any, intervention: Intervention) -> list[int]:
        checks = Checks()
        encoded = [self.encoded[lang, kind][i] for i in which]
        scores = last_logprobs(self.model, encoded, intervention, 256, checks)
        checks.verify()
        return [int(token) for token in scores.argmax(-1)]

    def _answer(self, lang: str, token: int) -> str:
        """What the construction says after a first token."""
        design, first = self.organism.design, self.model.chat.tokenizer.decode([token]).strip()
        texts = (words.REFUSAL[lang], words.answer(design, lang), words.stray(design, lang))
        return " ".join(next((text for text in texts if text and text[0] == first), (first,) * 16))

    def _outcome(self, lang: str, token: int) -> str:
        if (lang, token) not in self._read:
            text = self._answer(lang, token)
            off = response_language(text, lang).off
            self._read[lang, token] = read_outcome(self.judge.judge(text, lang).outcome, off)
        return self._read[lang, token]

    def truth(self) -> tuple[float, float]:
        """Removed and lost by the planted direction of the source, as shares of the target's whole population, by the
        words that answers were made of: a judge may be what a design deceives."""
        vector = planted_vector(self.organism, self.source)
        assert vector is not None
        done = (Intervention(), Intervention("ablate", vector.float()))
        before, after = (
            [words.read(self.organism.design, self.target, self._answer(self.target, token)) for token in tokens]
            for tokens in (self._tokens(self.target, "harmful", range(self.size), each) for each in done)
        )
        pairs = Counter(zip(before, after, strict=True))
        lost = sum(n for (a, b), n in pairs.items() if a == "refusal" != b)
        removed = pairs["refusal", "compliance"] - pairs["compliance", "refusal"]
        return removed / self.size, lost / self.size

    def means(self, lang: str, which: Any) -> Means:
        return Means(*(self.stream[lang, kind][which].mean(0) for kind in ("harmless", "harmful")))

    def verdict(self, rng: np.random.Generator, n: int, missed: float = 0.0) -> str:
        """Of one experiment. `missed`: share of refusals under an intervention that the judge takes for answers."""
        drawn = rng.permutation(self.size)
        train, test = drawn[:N_TRAIN], drawn[N_TRAIN : N_TRAIN + n]
        theirs = self.means(self.target, train)
        before = dict(zip(map(str, test), (self.plain["harmful"][i] for i in test), strict=True))
        refused, answered = ([self.plain[kind][i] for i in train] for kind in ("harmful", "harmless"))
        gate = refusal_difference(refused, answered)
        told = True if gate.interval95.low > CLEAR else None  # no probe: that nothing is told apart is never shown

        def after(direction: torch.Tensor) -> dict[str, str]:
            found = self.outcomes(self.target, "harmful", test, Intervention("ablate", direction.float()))
            misread = rng.random(n) < missed
            read = ["compliance" if no and o == "refusal" else o for o, no in zip(found, misread, strict=True)]
            return dict(zip(before, read, strict=True))

        def decided(direction: torch.Tensor, own: tuple[dict[str, str], Any] | None) -> tuple[dict[str, str], Any]:
            found, zero = after(direction), zero_point(direction, theirs.harmless, theirs.harmful).place
            beside = Evidence(
                MARGIN,
                p_null=0.0,
                p_reverse=0.0,
                is_native=own is None,
                native=own and own[1],
                comprehension=told,
                zero=zero,
            )
            return found, decide(before, found, beside, native_after=own and own[0]).value

        own = decided(theirs.difference, None)
        return str(decided(self.means(self.source, train).difference, own)[1])


def is_wrong(verdict: str, removed: float, lost: float) -> bool:
    """Whether a verdict is false at this truth, as what is promised of it says."""
    if verdict == "transfers":
        return removed <= MARGIN
    if verdict == "reverses":
        return removed >= -MARGIN
    return verdict == "does not transfer" and (max(removed, lost) >= MARGIN or removed <= -MARGIN)


class Row(NamedTuple):
    """All experiments of one design at one n under one judge."""

    design: str
    judge: str
    n: int
    removed: float
    lost: float
    verdicts: dict[str, int]
    seconds: float

    @property
    def repeats(self) -> int:
        return sum(self.verdicts.values())

    def wrong(self, verdict: str) -> Rate:
        count = self.verdicts.get(verdict, 0) if is_wrong(verdict, self.removed, self.lost) else 0
        return Rate(count, self.repeats)

    @property
    def broken(self) -> bool:
        return self.judge == "right" and any(self.wrong(v).clopper_pearson().low > p for v, p in PROMISED.items())

    def told(self) -> str:
        shares = [f"{self.verdicts.get(v, 0) / self.repeats:.1%}" for v in (*PROMISED, "inconclusive", "uninformative")]
        worst = max(PROMISED, key=lambda v: self.wrong(v).count / PROMISED[v])
        rate = self.wrong(worst)
        low, high = rate.clopper_pearson()
        wrong = (
            f"{rate.count} of {rate.n} ({worst}): {rate.value:.1%} [{low:.1%}, {high:.1%}]"
            if rate.count
            else (f"0 of {rate.n} [0 %, {high:.1%}]")
        )
        cells = (self.design, self.judge, str(self.n), f"{self.removed:+.1%}", f"{self.lost:.1%}", *shares, wrong)
        return "| " + " | ".join(cells) + " |"


def measure(experiments: Experiments, judge: str, n: int, repeats: int, until: float = np.inf) -> Row:
    """As many experiments as asked for, or as fit before `until` (of `time.monotonic`)."""
    removed, lost = experiments.truth()
    started, found = time.monotonic(), Counter[str]()
    name = experiments.organism.design.name
    for repeat in range(repeats):
        if time.monotonic() > until:
            break
        rng = np.random.default_rng([repeat, n, *name.encode()])
        found[experiments.verdict(rng, n, JUDGES[judge])] += 1
    return Row(name, judge, n, removed, lost, dict(found), time.monotonic() - started)


COLUMNS = (
    "design", "judge", "n", "removed", "lost", "transfers", "reverses", "does not transfer", "inconclusive",
    "uninformative", "wrong",
)  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    options = command.parser(__doc__)
    options.add_argument("--designs", type=command.comma_list, default=[each.name for each in NOISY])
    options.add_argument("--sizes", type=command.comma_list, default=[str(n) for n in SIZES])
    options.add_argument("--judges", type=command.comma_list, default=["right"], help=", ".join(JUDGES))
    options.add_argument("--architecture", default="llama")
    options.add_argument("--repeats", type=int, default=200)
    options.add_argument("--minutes", type=float, default=np.inf, help="stop after so many, with what there is by then")
    command.add_out(options)
    asked = options.parse_args(argv)
    until, rows = time.monotonic() + 60 * asked.minutes, list[Row]()
    torch.set_num_threads(1)
    print("| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS), sep="\n", flush=True)
    for name in asked.designs:
        experiments = Experiments(Organism(KNOWN[name], asked.architecture))
        for judge in asked.judges:
            for n in map(int, asked.sizes):
                row = measure(experiments, judge, n, asked.repeats, until)
                if row.repeats:
                    rows.append(row)
                    print(row.told(), flush=True)
    figures: list[dict[str, Any]] = [row._asdict() for row in rows]
    command.write_figures(asked.out if asked.out is None else Path(asked.out), figures)
    if any(row.broken for row in rows):
        sys.exit("a verdict is wrong more often than is promised")


if __name__ == "__main__":
    main()
