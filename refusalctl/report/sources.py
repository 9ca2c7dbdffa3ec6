"""A transfer artifact and all that it came from, read as report rows; parts that contradict each other are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from refusalctl.errors import Corrupt
from refusalctl.records.rows import OUTCOMES
from refusalctl.report import selection_words
from refusalctl.report.provenance import Provenance
from refusalctl.report.rows import Choice, Condition, Content, Drawn, Kept, Missing, Null, Scored, Verdict
from refusalctl.settings import Settings
from refusalctl.stats.rates import Flips, Interval
from refusalctl.stats.selection_rule import Rule
from refusalctl.stats.verdict import VERDICTS
from refusalctl.steps.selection.controls import read_controls
from refusalctl.steps.selection.scores import read_scores
from refusalctl.steps.transfer import read_transfer
from refusalctl.store.store import Artifact, Store

_LISTED_WINNERS = 10  # the selection lists no more; one that is missing then has an unknown share, not zero


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
    known = {f.name for f in fields(Flips)}
    flips = Flips(**{k: v for k, v in row["flips"].items() if k in known}) if row.get("flips") else None
    verdicts = row.get("verdict") or {}
    return Condition(
        target=row["target"],
        source=row["source"],
        condition=row["condition"],
        prompts=prompts,
        n=row["n"],
        counts=counts,
        labels=row["labels"],
        completions=completions,
        flips=flips,
        verdict=verdict(transfer, verdicts.get("removal")),
        induction=verdict(transfer, verdicts.get("induction")),
        detail=_detail(row),
    )


def _nulls(found: Provenance, transfer: Artifact) -> tuple[Null, ...]:
    """Control directions per cell, where the transfer ran them."""
    rows = []
    for name, identifier in transfer.inputs.items():
        if name.startswith("controls:"):
            value = read_controls(found.by_id[identifier])
            families = {k: (f["n"], max(f["drops"]), f["p"]) for k, f in value["families"].items()}
            rows.append(Null(value["source"], value["target"], identifier, value["drop"], families, value["p"]))
    return tuple(rows)


def verdict(transfer: Artifact, raw: Mapping[str, Any] | None) -> Verdict | None:
    """A verdict as `transfer` wrote it; None where it wrote none. Raises `Corrupt` for a value that is no verdict."""
    if raw is None:
        return None
    _must(raw.get("value") in VERDICTS, transfer, f"{raw.get('value')!r} is no verdict")
    limits = {k: Interval(*raw[k]) if raw.get(k) else None for k in ("interval95", "interval90")}
    return Verdict(
        raw["value"], raw.get("reason", ""), raw.get("removed"), limits["interval95"], limits["interval90"],
        raw.get("n_needed"), raw.get("p_null"),
    )  # fmt: skip


def _detail(row: Mapping[str, Any]) -> str:
    """What tells cells of one source, target and condition apart."""
    words = {"coeff": "coefficient", "dose": "dose", "seed": "seed", "draw": "draw"}
    return ", ".join(f"{name} {row[key]}" for key, name in words.items() if row.get(key) is not None)


MAIN = ("baseline", "native", "transferred")


def _conditions(transfer: Artifact, value: dict[str, Any]) -> list[Condition | Missing]:
    """Every condition that the experiment asks for, measured or with the reason why not."""
    cells = {(c["target"], c["source"]): c for c in value["cells"] if c["condition"] in MAIN}
    asked = Settings.from_json(value["settings"])
    rows: list[Condition | Missing] = []
    for target in asked.targets:
        for source in (None, *(s for s in asked.sources if s != target), target):
            cell = cells.pop((target, source), None)
            if cell is not None:
                rows.append(_condition(transfer, cell, "harmful", cell["completions"]))
                continue
            why = value["selections"].get(source, {}).get("reason") if source else None
            _must(why is not None, transfer, f"there is no cell {source or 'baseline'}>{target}, and no reason why")
            rows.append(Missing(target, str(source), "native" if source == target else "transferred", str(why)))
    _must(not cells, transfer, f"cells {sorted(map(str, cells))} were not asked for")
    return rows


def _others(found: Provenance, transfer: Artifact, value: dict[str, Any]) -> list[Condition]:
    """Control and induced conditions: everything beside baseline, native and transferred ablation."""
    rows = []
    for cell in value["cells"]:
        if cell["condition"] in MAIN:
            continue
        where = f"cell {cell['condition']} {cell.get('source')}>{cell['target']}"
        _must(cell["completions"] in found.by_id, transfer, f"{where} names artifacts that it lacks")
        written = found.by_id[cell["completions"]]
        prompts = found.by_id[written.inputs["prompts"]].about
        _must(prompts["lang"] == cell["target"], transfer, f"{where} was measured on {prompts['lang']} prompts")
        rows.append(_condition(transfer, cell, str(prompts["kind"]), written.id))
    return rows


def _harmless(found: Provenance, transfer: Artifact, value: dict[str, Any]) -> dict[str, Condition]:
    rows = {}
    for target, row in value["harmless"].items():
        _must(row["labels"] in found.by_id, transfer, f"the harmless labels of {target} are not among its inputs")
        completions = found.by_id[row["labels"]].inputs.get("completions", "")
        full = {**row, "target": target, "source": None, "condition": "baseline"}
        rows[target] = _condition(transfer, full, "harmless", completions)
    return rows


def _passes(scores: Mapping[str, Any], rule: Rule) -> bool | None:
    """Whether a candidate meets the rule's limits, None where what was measured does not tell."""
    # the selection scores no layer beyond the rule's limit, so that test is met by being there
    unscored = scores["bypass"] is None and scores["induce"] is None
    return (rule.by_kl_alone() if unscored else rule).passes(scores["induce"], scores["kl"])


def choice(lang: str, selection: Artifact, picked: Mapping[str, Any]) -> Choice:
    """Rows of one selection's `scores.json`; `picked` is the winner as the transfer names it."""
    scores = read_scores(selection)
    rule = Rule(**scores["rule"])
    winners, tokens = scores["stability"]["winners"], scores["suffix_tokens"]
    candidates = []
    for row in scores["candidates"]:
        unlisted = None if len(winners) >= _LISTED_WINNERS or not scores["stability"]["resamples"] else 0.0
        share = winners.get(f"{row['pos']},{row['layer']}", unlisted)
        is_winner = (row["pos"], row["layer"]) == (picked["pos"], picked["layer"])
        bypass, induce, kl = (float("nan") if row[k] is None else float(row[k]) for k in ("bypass", "induce", "kl"))
        token = tokens[row["pos"]]
        told = (bypass, induce, kl, _passes(row, rule), is_winner, share)
        candidates.append(Scored(row["pos"], token, row["layer"], *told))
    kept = {k: Kept(len(scores["kept"][k]), len(scores["baseline"][k])) for k in ("harmful", "harmless")}
    steady = scores["stability"]
    told_of = (steady["resamples"], steady["none"], tuple(candidates), selection_words.shortened(scores))
    result = Choice(lang, selection.id, scores["rule"], kept, *told_of)
    _must(any(c.chosen for c in candidates), selection, f"the winner {picked['pos'], picked['layer']} has no scores")
    return result


def _choices(found: Provenance, transfer: Artifact, value: dict[str, Any]) -> dict[str, Choice]:
    rows = {}
    for lang in Settings.from_json(value["settings"]).langs:
        picked = value["selections"].get(lang, {})
        if picked.get("status") != "chosen":
            continue
        _must(picked["artifact"] in found.by_id, transfer, f"the selection of {lang} is not among its inputs")
        selection = found.by_id[picked["artifact"]]
        actual = found.source_language(selection)
        _must(actual == lang, transfer, f"the direction called {lang} was extracted from {actual} prompts")
        rows[lang] = choice(actual, selection, picked)
    return rows


def content(store: Store, transfer: Artifact, found: Provenance | None = None) -> Content:
    """Read a transfer and all that it came from. Raises `Corrupt` where its parts contradict each other."""
    value = read_transfer(transfer)
    found = found or Provenance(store, transfer)
    rows, harmless = _conditions(transfer, value), _harmless(found, transfer, value)
    others = _others(found, transfer, value)
    for row in (*rows, *harmless.values(), *(other for other in others if other.source is not None)):
        if isinstance(row, Condition):
            _check_chain(found, transfer, row, value["model"])
    prompts = [a for a in found.sorted() if a.kind == "prompts"]
    tested = {tuple(a.manifest["recipe"]["params"]["ids"]) for a in prompts if _is(a, "test", "harmful")}
    return Content(
        transfer=transfer.id,
        settings=Settings.from_json(value["settings"]),
        model=value["model"],
        conditions=tuple(rows),
        harmless=harmless,
        choices=_choices(found, transfer, value),
        no_direction={k: v["reason"] for k, v in value["selections"].items() if v["status"] != "chosen"},
        drawn={(a.about["lang"], a.about["split"], a.about["kind"]): Drawn(a.about["n"], a.id) for a in prompts},
        same_prompts=len(tested) == 1,
        sources=tuple(found.sorted()),
        others=tuple(others),
        gates=value.get("gates", {}),
        nulls=_nulls(found, transfer),
    )


def _is(prompts: Artifact, split: str, kind: str) -> bool:
    return (prompts.about["split"], prompts.about["kind"]) == (split, kind)
