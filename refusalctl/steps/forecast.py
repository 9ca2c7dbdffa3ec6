"""`--dry-run`: what a plan asks of the model, counted from its recipes, and by a short probe how long that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from refusalctl.data import sets
from refusalctl.json_types import JsonObject
from refusalctl.stats.selection_rule import layer_limit
from refusalctl.steps.comprehension import MOST_TEXTS
from refusalctl.steps.selection.controls import SUBSPACES
from refusalctl.steps.selection.scorer import AT_ONCE
from refusalctl.steps.step import Planned, Workbench

if TYPE_CHECKING:
    from refusalctl.model.probe import Rates

PROBED = 8  # prompts per language
ITEMS = "items"  # of what the line itself is about: documents of a file, requests of a task


@dataclass(frozen=True)
class Work:
    """Prompts run forward, prompts scored by their openings as they are or under ablation, and under addition, prompts
    answered, and tokens written at most."""

    forward: int = 0
    scored: int = 0
    added: int = 0
    answers: int = 0
    new_tokens: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def total(self) -> int:
        """Prompt passes, answers apart."""
        return self.forward + self.scored + self.added

    def seconds(self, rates: Rates) -> float | None:
        """At most: answers that end early cost less. None where tokens are to be written that could not be timed."""
        if self.new_tokens and rates.token is None:
            return None
        written = self.new_tokens * (rates.token or 0.0)
        passes = (self.forward + self.answers) * rates.forward
        return passes + self.scored * rates.scored + self.added * rates.added + written


class Shape(NamedTuple):
    """What of the model and the experiment decides how many candidates there are."""

    n_layers: int
    n_positions: int
    layers: tuple[int, ...] | None = None
    max_layer_share: float = 1.0

    @property
    def n_candidates(self) -> int:
        limit = layer_limit(self.max_layer_share, self.n_layers)
        layers = range(self.n_layers) if self.layers is None else self.layers
        return self.n_positions * len([layer for layer in layers if layer < limit])


class Row(NamedTuple):
    """All missing work of one step in one language."""

    step: str
    lang: str
    work: Work
    seconds: float | None


class ControlPlan(NamedTuple):
    """Control directions of a plan: cells to compare, draws per source, the smallest p that so many can give, and
    prompts run; `most` in all, if every draw had to be brought to the real direction's damage, none were placed at the
    first try, and all harmful prompts had to be looked at."""

    cells: int
    draws: int
    smallest_p: float
    passes: int
    most: int


class Forecast(NamedTuple):
    """Rows by step and language, cells to write, and labels to make, which no probe covers."""

    rows: list[Row]
    cells: int
    labels: int
    controls: ControlPlan | None = None

    @property
    def total(self) -> Work:
        return sum((row.work for row in self.rows), Work())

    @property
    def seconds(self) -> float | None:
        """None without a probe."""
        known = [row.seconds for row in self.rows if row.seconds is not None]
        return sum(known) if len(known) == len(self.rows) else None

    def as_json(self) -> JsonObject:
        """Counts are exact but for answers that end early, filters that leave fewer prompts, and control draws
        that have to be ablated in part."""
        rows = [
            {"step": r.step, "lang": r.lang, **asdict(r.work), "seconds": r.seconds and round(r.seconds, 1)}
            for r in self.rows
        ]
        total = asdict(self.total) | {"seconds": self.seconds and round(self.seconds, 1)}
        found: JsonObject = {"rows": rows, "total": total, "cells": self.cells, "labels": self.labels}
        return found if self.controls is None else found | {"controls": self.controls._asdict()}


def shape(bench: Workbench) -> Shape:
    """Layers and positions to choose among, from the model's small files: no weights are read."""
    config, chat = bench.small
    positions = chat.positions if bench.settings.selection.positions is None else bench.settings.selection.positions
    share = bench.settings.selection.resolved_rule().max_layer_share
    return Shape(config.get_text_config().num_hidden_layers, len(positions), bench.settings.selection.layers, share)


def forecast_work(bench: Workbench, probe: bool = False) -> Forecast:
    """What the plan of a dry run asks of the model that is not in the store yet.

    With `probe` the model is loaded and a few test prompts of one language are run; passes of other languages' prompts
    cost in proportion to their length. Judging and translation are counted as labels and have no time.
    """
    missing = [line for line in bench.plan if not line.done]
    found = summed(missing, shape(bench), len(bench.settings.langs)) if missing else {}
    known = sets.set_languages(bench.settings.prompts.data) if probe and found else ()
    spoken = [lang for _step, lang in found if lang in known]  # requests of lm-eval are no prompts
    rates = _rates(bench, list(dict.fromkeys(spoken))) if probe and spoken else {}
    rows = [
        Row(step, lang, work, work.seconds(rates[lang]) if lang in rates else None)
        for (step, lang), work in found.items()
    ]
    cells = [line for line in missing if line.step == "ablate"]
    labels = sum(int(line.about.get("n") or 0) for line in missing if line.step == "judge")
    return Forecast(rows, len(cells), labels, control_plan(missing, shape(bench)) if missing else None)


def control_plan(lines: Iterable[Planned], model: Shape) -> ControlPlan | None:
    """What certifying costs, of the cells that are still to be compared; None where there are none."""
    from refusalctl.stats.controls import TRIES  # torch comes with it
    from refusalctl.stats.max_t import smallest_p

    lines = list(lines)
    asked = [line for line in lines if line.step == "controls"]
    if not asked:
        return None
    draws, passes, more = asked[0].sizes["directions"], 0, 0
    for line in asked:
        work = _controls(line.params, line.sizes, model, 0)
        passes += work.total
        more += TRIES * draws * min(line.sizes["test_harmless"], line.params["n_prompts"])
        more += max(line.sizes["test_harmful"] - line.params["n_prompts"], 0)
    for line in lines:
        if line.step == "control-directions":
            passes += _control_directions(line.params, line.sizes, model, 0).total
            again = (_places(line.params, model) - 1) * line.params["n"] * len(line.params["families"])
            more += again * line.sizes["val_harmless"]
    return ControlPlan(len(asked), draws, smallest_p(draws), passes, passes + more)


def _rates(bench: Workbench, langs: Sequence[str]) -> dict[str, Rates]:
    from refusalctl.model.probe import mean_tokens, measure

    texts = {
        lang: [p.text for p in sets.usable(bench.settings.prompts.data, lang, "harmful", "test")[:PROBED]]
        for lang in langs
    }
    first = measure(bench.model, texts[langs[0]], bench.machine.batch_size)
    encode = bench.model.chat.encode
    return {lang: first.scaled(mean_tokens([encode(text) for text in texts[lang]])) for lang in langs}


def summed(lines: Iterable[Planned], model: Shape, n_langs: int) -> dict[tuple[str, str], Work]:
    """Work per step and language; steps that do not run the model are left out."""
    found: dict[tuple[str, str], Work] = {}
    for line in lines:
        count = _COUNTS.get(line.step)
        if count is None:
            continue
        key = (line.step, str(line.about.get("lang") or line.about.get("task")))
        sizes = {**line.sizes, ITEMS: int(line.about.get("n") or 0)}
        found[key] = found.get(key, Work()) + count(line.params, sizes, model, n_langs)
    return found


Params = Mapping[str, Any]  # of a recipe, as the step itself wrote them
Sizes = Mapping[str, int]
Count = Callable[[Params, Sizes, Shape, int], Work]


def _collect(_params: Params, n: Sizes, _model: Shape, _n_langs: int) -> Work:
    return Work(forward=n["prompts"])


def _ablate(params: Params, n: Sizes, _model: Shape, _n_langs: int) -> Work:
    thinks = str(params.get("thinking", "")).startswith("on")
    most = params["max_new_tokens"] + (params["max_think_tokens"] if thinks else 0)
    return Work(answers=n["prompts"], new_tokens=n["prompts"] * most)


def _score(params: Params, n: Sizes, model: Shape, _n_langs: int) -> Work:
    """Bypass and induce are scored, KL is a pass; the filter may leave fewer validation prompts.

    In a full search the baseline's one pass serves the refusal scores, the KL and COSMIC.
    """
    candidates, harmful, harmless = model.n_candidates, n["val_harmful"], n["val_harmless"]
    apart = 0 if params["search"] == "full" else harmless
    return Work(
        forward=candidates * harmless + apart, scored=(candidates + 1) * harmful + harmless, added=candidates * harmless
    )


def _cosmic(_params: Params, n: Sizes, model: Shape, _n_langs: int) -> Work:
    """Where there are no refusal scores; beside them COSMIC costs nothing."""
    candidates = model.n_candidates
    return Work(forward=candidates * n["val_harmful"] + (2 * candidates + 1) * n["val_harmless"])


def _openings(_params: Params, n: Sizes, _model: Shape, _n_langs: int) -> Work:
    return Work(scored=n["val_harmful"] + n["val_harmless"])


def _comprehension(_params: Params, n: Sizes, _model: Shape, _n_langs: int) -> Work:
    return Work(forward=2 * min(n["prompts_harmless"], MOST_TEXTS))


def _control_directions(params: Params, n: Sizes, model: Shape, _n_langs: int) -> Work:
    """Most draws are settled by the KL of their best place. Where not all places are scored, a forward and a backward
    pass for every `AT_ONCE` directions say which; a backward pass counts as two."""
    places, draws, scored = model.n_candidates, params["n"], _places(params, model)
    if places == 1:
        return Work()

    def searched(family: str) -> Work:
        vectors = draws * places * (params["rank"] if family == SUBSPACES else 1)
        estimated = 3 * ceil(vectors / AT_ONCE) if scored < places else 0
        return Work(forward=n["val_harmless"] * (draws + 1), scored=(draws * scored + estimated) * n["val_harmful"])

    return sum(map(searched, params["families"]), Work())


def _places(params: Params, model: Shape) -> int:
    return min(params["max_candidates"] or model.n_candidates, model.n_candidates)


def _controls(params: Params, n: Sizes, _model: Shape, _n_langs: int) -> Work:
    """At full strength; a draw that damages more is brought to the limit by `TRIES` more passes over the harmless
    prompts. Prompts of both classes are looked at until enough are fit."""
    harmful, harmless = (min(n[f"test_{kind}"], params["n_prompts"]) for kind in ("harmful", "harmless"))
    directions = n["directions"] + 1
    found = Work(forward=harmless * (directions + 1), scored=harmful * (directions + 1) + harmless)
    return found if params["coeff"] is None else found + Work(added=harmless * directions)


def _losses(params: Params, n: Sizes, _model: Shape, _n_langs: int) -> Work:
    """Texts beyond `WINDOW` tokens take a pass for each part, which only the tokenizer can tell."""
    return Work(forward=n[ITEMS] if "text" in params else n["completions"])


def _drift(_params: Params, n: Sizes, _model: Shape, _n_langs: int) -> Work:
    """The baseline and the intervention."""
    return Work(forward=2 * n["prompts"])


def _lm_eval(_params: Params, n: Sizes, _model: Shape, _n_langs: int) -> Work:
    """Requests at most: lm-eval runs those of one context together where it can. Texts that it lets write are more."""
    return Work(forward=n[ITEMS])


_COUNTS: dict[str, Count] = {
    "losses": _losses,
    "drift": _drift,
    "lm-eval": _lm_eval,
    "collect": _collect,
    "ablate": _ablate,
    "score": _score,
    "cosmic": _cosmic,
    "openings": _openings,
    "comprehension": _comprehension,
    "control-directions": _control_directions,
    "controls": _controls,
}
