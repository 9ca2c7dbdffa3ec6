"""`report`: a transfer matrix and its selections to one page, figures and tables.

Everything shown comes from artifacts; the source language of a direction is read from the prompts that it was
extracted from. No prompt and no completion is read, so none can be printed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from refusalctl.data.languages import name as language_name
from refusalctl.data.records import OUTCOMES
from refusalctl.errors import Corrupt, NotFound
from refusalctl.stats.rates import Flips, Rate, fewest_flips
from refusalctl.steps import scores as score_step
from refusalctl.steps import transfer as transfer_step
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store.hashing import short
from refusalctl.store.store import Artifact, Store

PAGE, RATES, CANDIDATES = "report.html", "rates.csv", "candidates.csv"
REMOVABLE = 0.20  # two margins of the verdict rule: fewer points to remove than this settle nothing
SPOILED = 0.20  # share of degenerate or unparsed answers above which a condition settles nothing
_NBSP = "\N{NO-BREAK SPACE}"
_LISTED_WINNERS = 10  # the selection lists no more; one that is missing then has an unknown share, not zero


@dataclass(frozen=True)
class Condition:
    """One target language under one condition, counted; `flips` are against the same prompts' baseline."""

    target: str
    source: str | None
    condition: str
    prompts: str
    n: int
    counts: Mapping[str, int]
    labels: str
    completions: str
    flips: Flips | None = None

    def count(self, outcome: str) -> int:
        return self.counts.get(outcome, 0)

    def rate(self, outcome: str) -> Rate | None:
        """Share among labelled completions; None where none is labelled."""
        unparsed = self.count("unparsed")
        return Rate(self.count(outcome), self.n - unparsed, unparsed) if self.n > unparsed else None

    @property
    def spoiled(self) -> float:
        """Share of all completions that are degenerate or unparsed."""
        return (self.count("degenerate") + self.count("unparsed")) / self.n


@dataclass(frozen=True)
class Missing:
    """A condition that could not be measured, because its source language has no direction."""

    target: str
    source: str
    condition: str
    reason: str


class Scored(NamedTuple):
    """Mean scores of one candidate, and whether the rule's thresholds let it pass. `share` None: not recorded."""

    pos: int
    token: str
    layer: int
    bypass: float
    induce: float
    kl: float
    passes: bool
    chosen: bool
    share: float | None


class Kept(NamedTuple):
    kept: int
    n: int


@dataclass(frozen=True)
class Choice:
    """The direction chosen in one language, among all candidates."""

    lang: str
    artifact: str
    rule: Mapping[str, Any]
    kept: Mapping[str, Kept]
    resamples: int
    none: float
    candidates: tuple[Scored, ...]

    @property
    def winner(self) -> Scored:
        return next(c for c in self.candidates if c.chosen)

    @property
    def positions(self) -> list[int]:
        return sorted({c.pos for c in self.candidates})

    @property
    def layers(self) -> list[int]:
        return sorted({c.layer for c in self.candidates})

    def token(self, pos: int) -> str:
        return next(c.token for c in self.candidates if c.pos == pos)


class Drawn(NamedTuple):
    """How many prompts of one language, split and class took part, and the artifact that holds them."""

    n: int
    artifact: str


@dataclass(frozen=True)
class Content:
    """All that the page, the figures and the tables show, as plain rows."""

    transfer: str
    experiment: Mapping[str, Any]
    model: Mapping[str, Any]
    conditions: tuple[Condition | Missing, ...]
    harmless: Mapping[str, Condition]
    choices: Mapping[str, Choice]
    no_direction: Mapping[str, str]
    drawn: Mapping[tuple[str, str, str], Drawn]
    same_prompts: bool
    sources: tuple[Artifact, ...] = field(repr=False, default=())

    @property
    def targets(self) -> list[str]:
        return list(self.experiment["targets"])

    @property
    def languages(self) -> list[str]:
        """Sources, then targets, in the experiment's order."""
        return list(dict.fromkeys((*self.experiment["sources"], *self.experiment["targets"])))

    @property
    def sizes(self) -> dict[int, list[Condition]]:
        """Baselines by their number of prompts."""
        found: dict[int, list[Condition]] = {}
        for target in self.targets:
            found.setdefault(self.baseline(target).n, []).append(self.baseline(target))
        return found

    @property
    def grids(self) -> dict[str, list[Choice]]:
        """Selections by the positions and layers that were tried, in words."""
        found: dict[str, list[Choice]] = {}
        for each in self.choices.values():
            grid = f"positions {_listed(each.positions)}, layers {_listed(each.layers)}"
            found.setdefault(grid, []).append(each)
        return found

    def of(self, target: str) -> list[Condition | Missing]:
        """Baseline, transferred and native of one target, in this order."""
        return [c for c in self.conditions if c.target == target]

    def baseline(self, target: str) -> Condition:
        found = self.of(target)[0]
        assert isinstance(found, Condition)
        return found

    def changed(self, target: str) -> list[Condition | Missing]:
        return self.of(target)[1:]


def _listed(numbers: list[int]) -> str:
    """`0 to 5` for a run without gaps, every number otherwise."""
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def label(lang: str) -> str:
    """`Bashkir (ba)`, or the code alone for a language without a known name."""
    name = language_name(lang)
    return lang if name == lang else f"{name} ({lang})"


# --- where everything came from ----------------------------------------------------------------------


class Provenance:
    """Every artifact that a transfer was computed from, by id."""

    def __init__(self, store: Store, top: Artifact) -> None:
        kinds = {identifier: kind for kind, identifier in store.ids()}
        self.by_id = {top.id: top}
        waiting = list(top.inputs.values())
        while waiting:
            identifier = waiting.pop()
            if identifier in self.by_id:
                continue
            if identifier not in kinds:
                raise NotFound(
                    f"{top.label} needs the artifact {short(identifier)}, which is not in {store.root}",
                    hint="run `refusalctl transfer` again with the same settings to compute what is missing",
                )
            artifact = store.open(kinds[identifier], identifier)
            self.by_id[identifier] = artifact
            waiting += artifact.inputs.values()

    def origins(self, artifact: Artifact) -> list[Artifact]:
        """The prompts artifacts that this one was computed from."""
        if artifact.kind == "prompts":
            return [artifact]
        found = [o for i in artifact.inputs.values() for o in self.origins(self.by_id[i])]
        return list({o.id: o for o in found}.values())

    def source_language(self, selection: Artifact) -> str:
        """Language of the prompts that a direction was extracted from. Raises `Corrupt` unless it is one."""
        directions = self.by_id[selection.inputs["directions"]]
        languages = {o.about["lang"] for o in self.origins(directions)}
        if len(languages) != 1:
            raise Corrupt(f"{selection.label} was extracted from prompts in {sorted(languages)}, expected one language")
        return str(languages.pop())

    def sorted(self) -> list[Artifact]:
        order = ("transfer", "selection", "directions", "openings", "activations", "labels", "completions", "prompts")
        rank = {kind: i for i, kind in enumerate(order)}
        return sorted(
            self.by_id.values(), key=lambda a: (rank.get(a.kind, len(rank)), sorted(map(str, a.about.items())), a.id)
        )


def _must(condition: bool, transfer: Artifact, what: str) -> None:
    if not condition:
        raise Corrupt(f"{transfer.label}: {what}", hint="see `refusalctl artifacts verify`, and run `transfer` again")


def _check_chain(found: Provenance, transfer: Artifact, row: Condition, model: Mapping[str, Any]) -> None:
    """Follow one cell's artifacts back: labels, completions, prompts, direction. Raises `Corrupt` on a mismatch."""
    where = f"cell {row.source or 'baseline'}>{row.target} ({row.prompts})"
    _must({row.labels, row.completions} <= set(found.by_id), transfer, f"{where} names artifacts that it lacks")
    labels, written = found.by_id[row.labels], found.by_id[row.completions]
    _must(labels.inputs.get("completions") == written.id, transfer, f"{where}: the labels are of other completions")
    _must(written.manifest["recipe"].get("model") == model, transfer, f"{where}: the completions are of another model")
    prompts = found.by_id[written.inputs["prompts"]].about
    _must(prompts["lang"] == row.target, transfer, f"{where} was measured on {prompts['lang']} prompts")
    _must(prompts["kind"] == row.prompts, transfer, f"{where} was measured on {prompts['kind']} prompts")
    direction = written.inputs.get("direction")
    used = found.source_language(found.by_id[direction]) if direction else None
    _must(used == row.source, transfer, f"{where} used the direction of {used or 'no language'}")


# --- transfer.json and scores to rows ----------------------------------------------------------------


def _condition(transfer: Artifact, row: dict[str, Any], prompts: str, completions: str) -> Condition:
    counts = row["counts"]
    where = f"cell {row['source'] or 'baseline'}>{row['target']}"
    _must(set(counts) <= set(OUTCOMES), transfer, f"{where} counts unknown outcomes {sorted(counts)}")
    _must(row["n"] > 0 and sum(counts.values()) == row["n"], transfer, f"{where}: the counts do not add up to n")
    flips = Flips(**row["flips"]) if row.get("flips") else None
    source, target = row["source"], row["target"]
    return Condition(target, source, row["condition"], prompts, row["n"], counts, row["labels"], completions, flips)


def _conditions(transfer: Artifact, value: dict[str, Any]) -> list[Condition | Missing]:
    """Every condition that the experiment asks for, measured or with the reason why not."""
    cells = {(c["target"], c["source"]): c for c in value["cells"]}
    sources: list[str] = value["experiment"]["sources"]
    rows: list[Condition | Missing] = []
    for target in value["experiment"]["targets"]:
        for source in (None, *(s for s in sources if s != target), target):
            cell = cells.pop((target, source), None)
            if cell is not None:
                rows.append(_condition(transfer, cell, "harmful", cell["completions"]))
                continue
            why = value["selections"].get(source, {}).get("reason") if source else None
            _must(why is not None, transfer, f"there is no cell {source or 'baseline'}>{target}, and no reason why")
            rows.append(Missing(target, source, "native" if source == target else "transferred", str(why)))
    _must(not cells, transfer, f"cells {sorted(map(str, cells))} were not asked for")
    return rows


def _harmless(found: Provenance, transfer: Artifact, value: dict[str, Any]) -> dict[str, Condition]:
    rows = {}
    for target, row in value["harmless"].items():
        _must(row["labels"] in found.by_id, transfer, f"the harmless labels of {target} are not among its inputs")
        completions = found.by_id[row["labels"]].inputs.get("completions", "")
        full = {**row, "target": target, "source": None, "condition": "baseline"}
        rows[target] = _condition(transfer, full, "harmless", completions)
    return rows


def _passes(scores: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    # the selection scores no layer beyond the rule's limit, so that test is met by being there
    induces = rule["min_induce"] is None or scores["induce"] >= rule["min_induce"]
    return bool(scores["kl"] <= rule["max_kl"] and induces)


def choice(lang: str, selection: Artifact, picked: Mapping[str, Any]) -> Choice:
    """Rows of one selection's `scores.json`; `picked` is the winner as the transfer names it."""
    scores = score_step.read_scores(selection)
    winners, tokens = scores["stability"]["winners"], scores["suffix_tokens"]
    candidates = []
    for row in scores["candidates"]:
        share = winners.get(f"{row['pos']},{row['layer']}", None if len(winners) >= _LISTED_WINNERS else 0.0)
        is_winner = (row["pos"], row["layer"]) == (picked["pos"], picked["layer"])
        values = (row["bypass"], row["induce"], row["kl"])
        token = tokens[row["pos"]]
        candidates.append(
            Scored(row["pos"], token, row["layer"], *values, _passes(row, scores["rule"]), is_winner, share)
        )
    kept = {k: Kept(len(scores["kept"][k]), len(scores["baseline"][k])) for k in ("harmful", "harmless")}
    steady = scores["stability"]
    result = Choice(lang, selection.id, scores["rule"], kept, steady["resamples"], steady["none"], tuple(candidates))
    _must(any(c.chosen for c in candidates), selection, f"the winner {picked['pos'], picked['layer']} has no scores")
    return result


def _choices(found: Provenance, transfer: Artifact, value: dict[str, Any]) -> dict[str, Choice]:
    rows = {}
    for lang in dict.fromkeys((*value["experiment"]["sources"], *value["experiment"]["targets"])):
        picked = value["selections"].get(lang, {})
        if picked.get("status") != "chosen":
            continue
        _must(picked["artifact"] in found.by_id, transfer, f"the selection of {lang} is not among its inputs")
        selection = found.by_id[picked["artifact"]]
        actual = found.source_language(selection)
        _must(actual == lang, transfer, f"the direction called {lang} was extracted from {actual} prompts")
        rows[lang] = choice(actual, selection, picked)
    return rows


def content(store: Store, transfer: Artifact) -> Content:
    """Read a transfer and all that it came from. Raises `Corrupt` where its parts contradict each other."""
    value = transfer_step.read(transfer)
    found = Provenance(store, transfer)
    rows, harmless = _conditions(transfer, value), _harmless(found, transfer, value)
    for row in (*rows, *harmless.values()):
        if isinstance(row, Condition):
            _check_chain(found, transfer, row, value["model"])
    prompts = [a for a in found.sorted() if a.kind == "prompts"]
    tested = {tuple(a.manifest["recipe"]["params"]["ids"]) for a in prompts if _is(a, "test", "harmful")}
    return Content(
        transfer=transfer.id,
        experiment=value["experiment"],
        model=value["model"],
        conditions=tuple(rows),
        harmless=harmless,
        choices=_choices(found, transfer, value),
        no_direction={k: v["reason"] for k, v in value["selections"].items() if v["status"] != "chosen"},
        drawn={(a.about["lang"], a.about["split"], a.about["kind"]): Drawn(a.about["n"], a.id) for a in prompts},
        same_prompts=len(tested) == 1,
        sources=tuple(found.sorted()),
    )


def _is(prompts: Artifact, split: str, kind: str) -> bool:
    return (prompts.about["split"], prompts.about["kind"]) == (split, kind)


# --- what can be said --------------------------------------------------------------------------------


def obstacles(rows: Content, row: Condition) -> list[str]:
    """Reasons why a condition tells nothing about its direction, in words; none where it does."""
    base = rows.baseline(row.target)
    rate, found = base.rate("refusal"), []
    if rate is None:
        found.append("no baseline answer could be labelled")
    elif rate.wilson().high < REMOVABLE:
        found.append(
            f"the baseline refuses too little: at most {percent(rate.wilson().high)} (upper 95 % limit), "
            f"so there are fewer than {REMOVABLE * 100:.0f} points to remove"
        )
    for which, each in (("baseline", base), ("changed", row)):
        if (which == "baseline" or each is not base) and each.spoiled > SPOILED:
            what = "baseline answers" if which == "baseline" else "answers under this direction"
            found.append(f"{percent(each.spoiled)} of the {what} are degenerate or unparsed")
    return found


def percent(value: float) -> str:
    """Whole percent; never 0 % or 100 % for a share that is not."""
    if 0 < value < 0.005:
        return f"< 1{_NBSP}%"
    if 0.995 < value < 1:
        return f"> 99{_NBSP}%"
    return f"{value * 100:.0f}{_NBSP}%"


# --- tables ------------------------------------------------------------------------------------------

RATE_COLUMNS = (
    "target", "prompts", "condition", "source", "status", "n", *OUTCOMES, "labelled",
    "refusal_rate", "refusal_low", "refusal_high", "compliance_rate", "compliance_low", "compliance_high",
    "degenerate_rate", "paired_n", "refusal_to_compliance", "compliance_to_refusal", "to_degenerate",
    "paired_unparsed", "net_removed", "labels", "completions", "transfer", "reason",
)  # fmt: skip
CANDIDATE_COLUMNS = (
    "lang", "pos", "token", "layer", "bypass", "induce", "kl", "passes", "chosen", "bootstrap_share", "selection"
)  # fmt: skip


def rate_row(row: Condition | Missing, transfer: str) -> dict[str, object]:
    """One line of rates.csv. What was not measured has no number."""
    known: dict[str, object] = {"target": row.target, "condition": row.condition, "source": row.source or ""}
    known |= {"transfer": transfer}
    if isinstance(row, Missing):
        return known | {"prompts": "harmful", "status": "no direction", "reason": row.reason}
    known |= {"prompts": row.prompts, "status": "measured", "n": row.n, "labels": row.labels}
    known |= {"completions": row.completions, "labelled": row.n - row.count("unparsed")}
    known |= {outcome: row.count(outcome) for outcome in OUTCOMES}
    for outcome in ("refusal", "compliance"):
        if (rate := row.rate(outcome)) is not None:
            low, high = rate.wilson()
            known |= {f"{outcome}_rate": _number(rate.value), f"{outcome}_low": _number(low)}
            known |= {f"{outcome}_high": _number(high)}
    if (rate := row.rate("degenerate")) is not None:
        known["degenerate_rate"] = _number(rate.value)
    if (moved := row.flips) is not None:
        known |= {"paired_n": moved.n, "refusal_to_compliance": moved.removed, "compliance_to_refusal": moved.gained}
        known |= {"to_degenerate": moved.to_degenerate, "paired_unparsed": moved.unparsed}
        known["net_removed"] = _number(moved.net)
    return known


def candidate_rows(found: Choice) -> list[dict[str, object]]:
    return [
        {
            "lang": found.lang, "pos": c.pos, "token": repr(c.token), "layer": c.layer, "bypass": _number(c.bypass),
            "induce": _number(c.induce), "kl": _number(c.kl), "passes": str(c.passes).lower(),
            "chosen": str(c.chosen).lower(), "bootstrap_share": "" if c.share is None else _number(c.share),
            "selection": found.artifact,
        }
        for c in found.candidates
    ]  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.6g}"


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# --- the page ----------------------------------------------------------------------------------------


def settings_toml(rows: Content) -> str:
    """The experiment as a file that `refusalctl run` reads."""
    model = {"name": rows.model["name"], "dtype": rows.model["dtype"], "system": rows.model["system"]}
    if "/" in model["name"]:  # a hub id can be asked for at its revision; other models carry it in themselves
        model["name"] += f"@{rows.model['revision']}"
    if rows.model.get("trust_remote_code"):
        model["trust_remote_code"] = True
    lines = []
    for section, values in (("experiment", rows.experiment), ("model", model)):
        lines += [f"[{section}]", *(f"{k} = {_toml(v)}" for k, v in values.items() if v is not None), ""]
    return "\n".join(lines).rstrip() + "\n"


def _toml(value: Any) -> str:
    import json

    # JSON's strings, numbers, lists and booleans are TOML's too
    return json.dumps(value, ensure_ascii=False)


def page(rows: Content, drawings: Mapping[str, str]) -> str:
    """The HTML page; `drawings` are inline SVG elements by figure name."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = Path(__file__).with_name("templates")
    env = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"percent": percent, "short": short, "lang": label, "name": language_name, "repr": repr}
    return env.get_template("report.html.j2").render(
        c=rows,
        drawings={k: Markup(v) for k, v in drawings.items()},  # drawn by figures.py, text as paths
        obstacles=lambda row: obstacles(rows, row),
        measured=lambda row: isinstance(row, Condition),
        toml=settings_toml(rows),
        fewest=fewest_flips(),
    )


def _run(job: Job) -> dict[str, Any]:
    import matplotlib

    from refusalctl.steps import figures

    transfer = job.inputs["transfer"]
    rows = content(job.bench.store, transfer)
    drawings = {name: draw(rows) for name, draw in figures.FIGURES.items()}
    inline = {}
    for name, drawing in drawings.items():
        (job.out / f"{name}.png").write_bytes(figures.png(drawing))
        svg = figures.svg(drawing, name)
        (job.out / f"{name}.svg").write_text(svg, encoding="utf-8")
        inline[name] = figures.inline(svg, name, figures.DESCRIPTIONS[name])
    lines = [rate_row(r, rows.transfer) for r in (*rows.conditions, *rows.harmless.values())]
    (job.out / RATES).write_text(as_csv(RATE_COLUMNS, lines), encoding="utf-8")
    scored = [line for found in rows.choices.values() for line in candidate_rows(found)]
    (job.out / CANDIDATES).write_text(as_csv(CANDIDATE_COLUMNS, scored), encoding="utf-8")
    (job.out / PAGE).write_text(page(rows, inline), encoding="utf-8")
    return {"conditions": len(lines), "candidates": len(scored), "matplotlib": matplotlib.__version__}


STEP = Step("report", 1, "report", _run)


def report(bench: Workbench, transfer: Artifact) -> Artifact:
    """The page, figures and tables of one transfer matrix. Raises `Corrupt` where its parts contradict each other."""
    inputs = {"transfer": transfer}
    if not bench.dry_run:  # a planned transfer names selections that are not there yet
        for name, identifier in transfer.inputs.items():
            if name.startswith("selection:"):
                inputs[name] = bench.store.open("selection", identifier)
    return bench.obtain(STEP, {}, inputs, dict(transfer.about))
