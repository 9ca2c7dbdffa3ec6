"""A transfer and all that it came from, arranged for a report; parts that contradict each other are refused."""

from __future__ import annotations

from refusalctl.errors import Corrupt
from refusalctl.records.cell import Condition
from refusalctl.records.rows import KINDS
from refusalctl.records.selection import Candidate
from refusalctl.records.transfer import ChosenDirection, MissingCell, ModelKey, Transfer, TransferCell
from refusalctl.report import selection_words
from refusalctl.report.content import CandidateRow, Choice, Content, ControlDrops, DrawnPrompts, KeptPrompts, Row
from refusalctl.report.imported import imported_content
from refusalctl.report.provenance import Provenance
from refusalctl.settings import Settings
from refusalctl.stats.candidate_choice import CRITERIA
from refusalctl.stats.selection_rule import Rule
from refusalctl.steps.input_names import inputs_of
from refusalctl.steps.known_truth import known_truth
from refusalctl.steps.selection.control_effects import read_controls
from refusalctl.steps.selection.scores import read_choice
from refusalctl.steps.transfer import read_transfer
from refusalctl.store.store import Artifact, Store


def _contradiction(artifact: Artifact, what: str) -> Corrupt:
    return Corrupt(f"{artifact.label}: {what}", hint="see `refusalctl artifacts verify`, and run `transfer` again")


def _must(condition: bool, artifact: Artifact, what: str) -> None:
    if not condition:
        raise _contradiction(artifact, what)


def _check_chain(found: Provenance, transfer: Artifact, row: TransferCell, model: ModelKey) -> None:
    """Follow one cell's artifacts back: labels, completions, prompts, direction. Raises `Corrupt` on a mismatch."""
    where = f"cell {row.source or 'baseline'}>{row.target} ({row.prompts})"
    counts = row.counts
    _must(row.n == counts.labelled + counts.unparsed > 0, transfer, f"{where}: the counts do not add up to n")
    answers = row.completions or ""
    _must({row.labels, answers} <= set(found.by_id), transfer, f"{where} names artifacts that it lacks")
    labels, written = found.by_id[row.labels], found.by_id[answers]
    _must(labels.inputs.get("completions") == written.id, transfer, f"{where}: the labels are of other completions")
    _must(written.manifest["recipe"].get("model") == model, transfer, f"{where}: the completions are of another model")
    prompts = found.by_id[written.inputs["prompts"]].about
    _must(prompts["lang"] == row.target, transfer, f"{where} was measured on {prompts['lang']} prompts")
    _must(prompts["kind"] == row.prompts, transfer, f"{where} was measured on {prompts['kind']} prompts")
    direction = written.inputs.get("direction")
    used = found.source_language(found.by_id[direction]) if direction else None
    _must(used == row.source, transfer, f"{where} used the direction of {used or 'no language'}")


# --- the record and the scores, arranged --------------------------------------------------------------


def _conditions(transfer: Artifact, record: Transfer, asked: Settings) -> list[Row]:
    """Every baseline and ablation that the experiment asks for, measured or with the reason why not."""
    cells = {(c.target, c.source): c for c in record.cells if _is_main(c)}
    rows: list[Row] = []
    for target in asked.targets:
        for source in (None, *(s for s in asked.sources if s != target), target):
            cell = cells.pop((target, source), None)
            if cell is not None:
                rows.append(cell)
                continue
            why = record.no_direction.get(source) if source else None
            if source is None or why is None:
                raise _contradiction(transfer, f"there is no cell {source or 'baseline'}>{target}, and no reason why")
            condition: Condition = "native" if source == target else "transferred"
            rows.append(MissingCell(source, target, condition, why))
    _must(not cells, transfer, f"cells {sorted(map(str, cells))} were not asked for")
    return rows


def _is_main(cell: TransferCell) -> bool:
    """Whether the cell belongs to the matrix: a baseline or the ablation of a chosen direction."""
    return cell.is_ablation or cell.condition == "baseline"


def _nulls(found: Provenance, transfer: Artifact) -> tuple[ControlDrops, ...]:
    """Control directions per cell, where the transfer ran them."""
    rows = []
    for identifier in inputs_of("controls", transfer.inputs).values():
        value = read_controls(found.by_id[identifier])
        most = max(each.drop for each in value.draws)
        rows.append(
            ControlDrops(value.source, value.target, identifier, value.drop, value.kl, most, value.matching, value.p)
        )
    return tuple(rows)


def choice(lang: str, selection: Artifact, picked: ChosenDirection) -> Choice:
    """Rows of one selection's `scores.json`; `picked` is the winner as the transfer names it."""
    scores = read_choice(selection)
    rule, asked, tokens = scores.rule, scores.validation, scores.suffix_tokens
    if rule is None or asked is None or tokens is None:
        raise _contradiction(selection, "it was chosen elsewhere, so no transfer can rest on it")
    winner, steady = Candidate(picked.pos, picked.layer), scores.stability
    candidates = tuple(
        CandidateRow(
            pos=row.pos,
            token=tokens[row.pos],
            layer=row.layer,
            **{name: _or_nan(getattr(row, name)) for name in CRITERIA},
            passes=Rule.of(rule).accepts(row),
            chosen=row.place == winner,
            share=steady.share(row.place) if steady else None,
        )
        for row in scores.candidates
    )
    _must(any(c.chosen for c in candidates), selection, f"the winner {picked.pos, picked.layer} has no scores")
    kept = {k: KeptPrompts(len(asked.kept.of(k)), asked.n.of(k)) for k in KINDS}
    left_out = selection_words.shortened(scores)
    return Choice(lang, selection.id, rule, kept, steady, candidates, left_out)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _choices(found: Provenance, transfer: Artifact, record: Transfer, asked: Settings) -> dict[str, Choice]:
    rows = {}
    for lang in asked.langs:
        chosen = record.directions.get(lang)
        if chosen is None:
            continue
        _must(chosen.artifact in found.by_id, transfer, f"the selection of {lang} is not among its inputs")
        selection = found.by_id[chosen.artifact]
        actual = found.source_language(selection)
        _must(actual == lang, transfer, f"the direction called {lang} was extracted from {actual} prompts")
        rows[lang] = choice(actual, selection, chosen)
    return rows


def content(store: Store, transfer: Artifact, found: Provenance | None = None) -> Content:
    """Read a transfer and all that it came from. Raises `Corrupt` where its parts contradict each other."""
    record = read_transfer(transfer)
    found = found or Provenance(store, transfer)
    if record.imported is not None:
        return imported_content(found, transfer, record, record.imported)
    for cell in (*record.cells, *record.harmless.values()):
        _check_chain(found, transfer, cell, record.model)
    asked = Settings.from_json(record.settings)
    prompts = [a for a in found.sorted() if a.kind == "prompts"]
    tested = {tuple(a.manifest["recipe"]["params"]["ids"]) for a in prompts if _is(a, "test", "harmful")}
    return Content(
        transfer=transfer.id,
        record=record,
        settings=asked,
        conditions=tuple(_conditions(transfer, record, asked)),
        others=tuple(cell for cell in record.cells if not _is_main(cell)),
        choices=_choices(found, transfer, record, asked),
        drawn={(a.about["lang"], a.about["split"], a.about["kind"]): DrawnPrompts(a.about["n"], a.id) for a in prompts},
        same_prompts=len(tested) == 1,
        nulls=_nulls(found, transfer),
        sources=tuple(found.sorted()),
        label=str(record.model["name"]),
        truth=known_truth(record.model),
    )


def _is(prompts: Artifact, split: str, kind: str) -> bool:
    return (prompts.about["split"], prompts.about["kind"]) == (split, kind)
