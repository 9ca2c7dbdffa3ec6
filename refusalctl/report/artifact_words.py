"""What an artifact found, in a few lines of words, for `artifacts show`."""

from __future__ import annotations

from collections.abc import Callable

from refusalctl.records.estimates import Auroc
from refusalctl.report import cost_words, selection_words
from refusalctl.steps.comprehension import read_comprehension
from refusalctl.steps.costs.panel import read_cost
from refusalctl.steps.directions import reliability_at, split_half
from refusalctl.steps.selection.control_effects import read_controls
from refusalctl.steps.selection.cosmic import read_cosmic
from refusalctl.steps.selection.openings import read_openings
from refusalctl.store.store import Artifact


def described(artifact: Artifact) -> list[str]:
    """Lines for the kinds that hold a finding; none for the others. Raises `Corrupt` for a file that cannot be read."""
    say = _SAY.get(artifact.kind)
    return say(artifact) if say else []


def _directions(artifact: Artifact) -> list[str]:
    halves, splits = split_half(artifact)
    if not splits:  # imported
        return [selection_words.UNSPLIT]
    known = sorted((cosine, at) for at, cosine in halves.items() if cosine is not None)
    if not known:
        return ["halves of the train prompts share no direction at any candidate"]
    (low, weakest), (high, best) = known[0], known[-1]
    lines = [
        f"split-half cosine {low:.2f} (position {weakest[0]}, layer {weakest[1]}) to {high:.2f} "
        f"(position {best[0]}, layer {best[1]}), {len(known)} candidates"
    ]
    at = reliability_at(artifact, *best)
    if at.ceiling is not None:
        lines.append(f"at best: reliability {at.full:.2f}, noise ceiling {at.ceiling:.2f} for its cosine to anything")
    flat = len(halves) - len(known)
    return [*lines, f"no direction at {flat} candidates: both classes have the same mean"] if flat else lines


def _openings(artifact: Artifact) -> list[str]:
    value = read_openings(artifact)
    checked = value.validation
    lines = [f"{len(value.sequences)} openings, {value.origin}"]
    if value.coverage is not None:
        lines[0] += (
            f": {value.coverage:.0%} of {value.n_refusals} judged train refusals begin with one, "
            f"{value.false_share:.0%} of {value.n_others} other answers"
        )
    counts = f"{checked.refusals} refusals, {checked.others} other answers, {checked.left_out} left out"
    if checked.auroc is None:
        return [*lines, f"not checked ({counts}): {checked.reason}"]
    return [
        *lines,
        f"checked on validation prompts by {checked.judge!r} ({counts}): AUROC {_ranged(checked.auroc)}, "
        f"{checked.covered} of the refusals begin with one, {checked.false} of the others",
    ]


def _controls(artifact: Artifact) -> list[str]:
    value = read_controls(artifact)
    lines = [
        f"{value.source} direction ablated in {value.target}: the refusal score drops by {value.drop:.2f} "
        f"(log-odds, {value.n_prompts} prompts)"
    ]
    lines.append(f"{value.matching}; they drop it by at most {max(d.drop for d in value.draws):.2f}, p {value.p:.3g}")
    return [*lines, f"smallest p that these draws can give: {value.smallest_p:.3g}"]


def _comprehension(artifact: Artifact) -> list[str]:
    value = read_comprehension(artifact)
    passed = {True: "passed", False: "failed", None: "undecided"}[value.passed]
    lines = [f"gate {passed}: {value.reason}", value.caveat]
    behaviour = value.behaviour
    lines.append(f"{behaviour.answered} of {behaviour.n} harmless train prompts answered")
    if behaviour.in_language is not None:
        lines[-1] += f", {behaviour.in_language:.0%} of {behaviour.identified} in the language asked"
    return lines + [f"concern: {concern}" for concern in value.concerns]


def _cosmic(artifact: Artifact) -> list[str]:
    value = read_cosmic(artifact)
    best = max(value.candidates, key=lambda row: row.score)
    where = f"streams compared at layers {', '.join(map(str, value.layers))}"
    return [f"highest cosines: {selection_words.choice_line(best)}", where]


def _ranged(auroc: Auroc) -> str:
    return f"{auroc.value:.2f} [{auroc.low:.2f}, {auroc.high:.2f}]"


_SAY: dict[str, Callable[[Artifact], list[str]]] = {
    "selection": selection_words.described,
    "directions": _directions,
    "openings": _openings,
    "controls": _controls,
    "comprehension": _comprehension,
    "cosmic": _cosmic,
    "cost": lambda artifact: cost_words.sentences(read_cost(artifact)),
}
