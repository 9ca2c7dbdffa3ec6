"""Searches that score less than everything, against the full grid."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refusalctl.errors import BadInput, EmptySelection
from refusalctl.progress import Silent
from refusalctl.records.selection import ByClass, Candidate, ScoreEstimate, SelectionScores
from refusalctl.report.make import make_report
from refusalctl.report.selection_words import described
from refusalctl.report.sources import choice
from refusalctl.settings import Settings
from refusalctl.stats.candidate_choice import CRITERIA, CandidateScores, choose
from refusalctl.stats.selection_rule import PRESETS, Rule
from refusalctl.steps.directions import KINDS
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection import search
from refusalctl.steps.selection.openings import derive_openings, read_openings
from refusalctl.steps.selection.scorer import Criteria, Ledger, Measured, Scorer
from refusalctl.steps.selection.scores import chosen_candidate, read_choice, select_direction
from refusalctl.store import formats
from refusalctl.store.store import Artifact
from tests.steps import world
from tests.steps.selection.test_cosmic import organism
from tests.steps.world import score_table


class Table:
    """Scores that are there already, and which of them were asked for."""

    def __init__(self, scores: list[tuple[float, float, float]]) -> None:
        self.grid = [Candidate(-1, layer) for layer in range(len(scores))]
        self.scores = dict(zip(self.grid, scores, strict=True))
        self.asked: set[tuple[str, Candidate]] = set()

    def mean(self, name: str, candidate: Candidate) -> float:
        self.asked.add((name, candidate))
        return self.scores[candidate][CRITERIA.index(name)]

    def exceeds(self, candidate: Candidate, limit: float, *, at_a_look: bool = False) -> bool:
        """A look tells of a KL that is three times the limit."""
        if at_a_look:
            self.asked.add(("look", candidate))
        kl = self.scores[candidate][2]
        return kl > 3 * limit if at_a_look else self.mean("kl", candidate) > limit

    def estimates(self) -> dict[Candidate, ScoreEstimate]:
        return {c: ScoreEstimate(*scores) for c, scores in self.scores.items()}

    def complete(self, candidate: Candidate) -> None:
        self.asked |= {(name, candidate) for name in CRITERIA}

    def as_scores(self, grid: list[Candidate]) -> CandidateScores:
        columns = np.array([self.scores[c] for c in grid]).T[:, :, None]
        return CandidateScores(grid, *columns)

    def complete_ones(self) -> list[Candidate]:
        return [c for c in self.grid if all((name, c) in self.asked for name in CRITERIA)]


SCORES = st.tuples(st.integers(-3, 3), st.integers(-2, 2), st.sampled_from([0.0, 0.05, 0.1, 0.3]))


@given(scores=st.lists(SCORES, min_size=1, max_size=12), name=st.sampled_from(sorted(PRESETS)))
def test_a_pruned_search_chooses_what_the_full_grid_chooses(scores: list[tuple[int, int, float]], name: str) -> None:
    rule, n_layers = PRESETS[name], 100
    table = Table([tuple(map(float, row)) for row in scores])  # type: ignore[misc]
    found = search.prune(table, table.grid, rule)
    try:
        expected = table.grid[choose(table.as_scores(table.grid), rule, n_layers)]
    except EmptySelection:
        assert not found
        assert table.complete_ones() == table.grid  # the error tells of all of them
        return
    assert found
    scored = table.complete_ones()
    assert scored[choose(table.as_scores(scored), rule, n_layers)] == expected


def test_candidates_that_a_criterion_excluded_are_not_scored_on_the_next() -> None:
    table = Table([(-5.0, -1.0, 0.0), (-4.0, 1.0, 0.2), (-3.0, 1.0, 0.05), (-2.0, 1.0, 0.0), (-6.0, 1.0, 0.5)])
    assert search.prune(table, table.grid, Rule("arditi", 0.1, 0.0, 0.8))
    assert ("kl", table.grid[0]) not in table.asked
    assert table.complete_ones() == table.grid[1:3]
    assert not table.asked & {(name, table.grid[3]) for name in ("induce", "kl")}
    assert {name for name, c in table.asked if c == table.grid[4]} == {"look"}


def numbers(selection: Artifact) -> list[float | None]:
    at = chosen_candidate(selection)
    return [at.pos, at.layer, at.bypass, at.induce, at.kl]


@pytest.mark.parametrize("design", ["shared", "separate", "decoy"])
def test_the_choice_is_that_of_the_full_grid_and_what_was_left_out_is_no_number(design: str, tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, design, layers=(1, 2, 3, 4))
    full = select_direction(bench.asking(experiment), "qaa")
    pruned = select_direction(bench.asking(experiment.changed(search="prune")), "qaa")
    assert numbers(pruned) == pytest.approx(numbers(full), abs=2e-5)
    tables = [read_choice(found) for found in (full, pruned)]
    assert [row.place for row in tables[0].candidates] == [row.place for row in tables[1].candidates]
    missing = 0
    for row, less in zip(tables[0].candidates, tables[1].candidates, strict=True):
        for name in CRITERIA:
            score = getattr(less, name)
            missing += score is None
            assert score is None or score == pytest.approx(getattr(row, name), abs=2e-5)
            assert (getattr(less.per_prompt, name) is None) == (score is None)
    assert missing > 0
    assert tables[1].stability is None
    assert "shortened search" in (tables[1].unsteady or "")
    assert tables[0].stability is not None
    assert tables[0].stability.resamples == 1000
    words = "\n".join(described(pruned))
    assert "search prune" in words
    assert "needs the full grid" in words
    shown = choice("qaa", pruned, chosen_candidate(pruned))
    assert "search prune" in shown.shortened
    assert {c.passes for c in shown.candidates} >= {True, None}
    assert all(c.share is None for c in shown.candidates)
    assert not choice("qaa", full, chosen_candidate(full)).shortened


@given(scores=st.lists(SCORES, min_size=1, max_size=40), name=st.sampled_from(sorted(PRESETS)))
def test_a_screened_search_with_right_estimates_chooses_the_same(
    scores: list[tuple[int, int, float]], name: str
) -> None:
    rule = PRESETS[name]
    tables = [Table([tuple(map(float, row)) for row in scores]) for _ in range(2)]  # type: ignore[misc]
    found = search.screen(tables[0], tables[0].grid, rule)
    assert found == search.prune(tables[1], tables[1].grid, rule)
    if found:
        winners = [t.complete_ones()[choose(t.as_scores(t.complete_ones()), rule, 100)] for t in tables]
        assert tables[0].scores[winners[0]][0] == tables[0].scores[winners[1]][0]


def test_a_screening_tries_candidates_that_look_far_from_passing_last() -> None:
    rule = PRESETS["arditi"]
    assert search.looks_failing(ScoreEstimate(-9.0, 1.0, 0.31), rule)
    assert search.looks_failing(ScoreEstimate(-9.0, -2.1, 0.0), rule)
    assert not search.looks_failing(ScoreEstimate(-9.0, -1.9, 0.29), rule)
    assert not search.looks_failing(ScoreEstimate(-9.0, -99.0, 0.29), PRESETS["wang"])
    n = search.SURVIVORS
    table = Table([*((-9.0, 1.0, 0.5) for _ in range(n)), (0.0, 1.0, 0.01)])
    assert search.screen(table, table.grid, rule)
    assert ("kl", table.grid[n]) in table.asked
    assert len({c for _name, c in table.asked}) == n  # all but one of those put last


def test_a_screening_goes_on_with_the_next_candidates_until_one_passes() -> None:
    n = 3 * search.SURVIVORS
    table = Table([(float(i), 1.0, 0.01 if i == n - 5 else 0.2) for i in range(n)])
    assert search.screen(table, table.grid, PRESETS["arditi"])
    assert table.complete_ones()[-1] == table.grid[n - 5]
    few = Table([(float(i), 1.0, 0.01) for i in range(n)])
    assert search.screen(few, few.grid, PRESETS["arditi"])
    assert {c for _name, c in few.asked} == set(few.grid[: search.SURVIVORS])
    large = Table([(float(i), 1.0, 0.01) for i in range(100)])
    assert search.screen(large, large.grid, PRESETS["arditi"])
    assert {c for _name, c in large.asked} == set(large.grid[:20])  # a fifth


@pytest.mark.parametrize("design", ["shared", "separate", "decoy", "asymmetric"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_screening_of_organisms_finds_the_choice_of_the_full_grid(
    design: str, architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SURVIVORS", 3)
    bench, experiment = organism(
        tmp_path, f"{design}:{architecture}", layers=(1, 2, 3), sources=("qaa", "qab"), targets=("qaa", "qab")
    )
    full = select_direction(bench.asking(experiment.changed(search="prune")), "qaa")
    screened = select_direction(bench.asking(experiment.changed(search="screen")), "qaa")
    assert numbers(screened) == pytest.approx(numbers(full), abs=2e-5)
    rows = read_choice(screened).candidates
    left_out = [row for row in rows if all(getattr(row, name) is None for name in CRITERIA)]
    assert len(left_out) == len(rows) - 3
    assert all(row.estimate is not None for row in rows)
    assert "search screen: 1 of" in "\n".join(described(screened))


def test_where_nothing_passes_the_error_is_the_same(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, max_kl=-1.0)
    messages = []
    for asked in (experiment, experiment.changed(search="prune")):
        with pytest.raises(EmptySelection) as caught:
            select_direction(bench.asking(asked), "qaa")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_shortened_search_needs_refusal_scores() -> None:
    with pytest.raises(BadInput, match="COSMIC needs every candidate"):
        Settings.of(search="prune", criterion="cosmic")
    with pytest.raises(BadInput, match="expected full or prune or screen"):
        Settings.of(search="luck")


def test_fast_criteria_equal_plain_ones(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path)
    scorer = Scorer(bench.model, read_openings(derive_openings(bench.asking(experiment), "qaa")).sequences, 5)
    drawn = (read_prompts(draw_prompts(bench.asking(experiment), "qaa", k, "val")) for k in KINDS)
    encoded = [[bench.model.chat.encode(p.text) for p in rows] for rows in drawn]
    fast, plain = Criteria(scorer, *encoded), Criteria(scorer, *encoded, fast=False)
    assert fast.sweeps.skips
    assert not plain.sweeps.skips
    vector = torch.randn(96, generator=torch.Generator().manual_seed(0)) * 5
    for layer in (0, 1, 3, 5):
        for name, scores in fast.all(vector, layer).scores.items():
            assert scores == pytest.approx(plain.all(vector, layer).scores[name], abs=1e-4), (name, layer)


def test_a_report_shows_what_was_left_out_and_no_number_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def table() -> SelectionScores:
        value = score_table()
        rows = (row if row.layer == 3 else replace(row, induce=None, kl=None) for row in value.candidates)
        return replace(value, search="prune", stability=None, unsteady="a test", candidates=tuple(rows))

    monkeypatch.setattr(world, "score_table", table)
    made = world.World(tmp_path)
    matrix = made.transfer({lang: made.selection(lang) for lang in ("en", "ba")})
    page = make_report(made.bench, [matrix], geometry=False).path
    rows = list(csv.DictReader((page / "candidates.csv").read_text(encoding="utf-8").splitlines()))
    left_out = [row for row in rows if row["layer"] != "3"]
    assert {(row["induce"], row["kl"], row["passes"], row["bootstrap_share"]) for row in left_out} == {("", "", "", "")}
    assert "search prune: 3 of 18 candidates have all three scores" in (page / "report.html").read_text("utf-8")
    for path in page.iterdir():
        if path.suffix in (".html", ".csv", ".svg", ".md", ".json"):
            assert not re.search(r"\b(nan|NaN|None)\b", path.read_text(encoding="utf-8")), path.name


class Counting:
    """Criteria whose scores are their candidate's layer; `fails_at` measurements it is interrupted."""

    names = CRITERIA

    def __init__(self, fails_at: int = 10**9) -> None:
        self.calls, self.fails_at = 0, fails_at

    def measured(self, name: str) -> object:
        def measure(_vector: torch.Tensor, layer: int) -> object:
            self.calls += 1
            if self.calls == self.fails_at:
                raise KeyboardInterrupt
            if name == "all":
                return Measured({key: [float(layer)] for key in CRITERIA}, {})
            return {name: [float(layer)]}

        return measure

    def __getattr__(self, name: str) -> object:
        return self.measured(name)


def test_what_was_measured_outlives_an_interruption(tmp_path: Path) -> None:
    grid = [Candidate(-1, layer) for layer in range(4)]
    vectors = {c: torch.ones(2) for c in grid}
    file = tmp_path / "candidates.jsonl"
    first = Ledger(Counting(3), vectors, FinishedRows(tmp_path, file.name), Silent.advance)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        search.full(first, grid)
    with file.open("ab") as out:
        out.write(b'{"pos":-1,"la')  # and cut short
    rest = Counting()
    second = Ledger(rest, vectors, FinishedRows(tmp_path, file.name), Silent.advance)  # type: ignore[arg-type]
    search.full(second, grid)
    assert rest.calls == 2
    assert [second.row(c, ByClass((0,), (0,))).kl for c in grid] == [0.0, 1.0, 2.0, 3.0]
    assert len(formats.read_finished_rows(file)) == 4
