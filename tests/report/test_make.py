"""The report against hand-computed numbers, on a synthetic matrix that the real transfer step assembled."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from refusalctl.errors import Corrupt, NotFound, StoreError
from refusalctl.model.intervention_words import KINDS
from refusalctl.records.transfer import Transfer
from refusalctl.report import quality, sources
from refusalctl.report.figures.matrix import transfer_matrix
from refusalctl.report.figures.rates import refusal_rates
from refusalctl.report.make import make_report
from refusalctl.report.provenance import Provenance
from refusalctl.steps.activations import COLLECT
from refusalctl.steps.subspace import SUBSPACE
from refusalctl.steps.transfer import read_transfer
from refusalctl.store import garbage
from refusalctl.store.hashing import short
from refusalctl.store.store import Artifact
from tests.steps.world import EXPERIMENT, HARMFUL, NO_DIRECTION, SECRET, World
from tests.store.test_store import full_for

pytestmark = pytest.mark.xdist_group("report")  # one worker makes what these tests share

FILES = {
    "report.html", "rates.csv", "candidates.csv",
    "excluded.csv", "report.md", "report.tex", "report.json",
    *(f"{name}.{end}" for name in ("compliance", "refusal_rates", "transfer_matrix", "layer_scores")
      for end in ("png", "svg", "pdf")),
}  # fmt: skip


def transferred(root: Path) -> tuple[World, Artifact]:
    world = World(root)
    return world, world.transfer({lang: world.selection(lang) for lang in ("en", "ba")})


def reported(root: Path) -> tuple[World, Artifact, Artifact]:
    world, matrix = transferred(root)
    return world, matrix, make_report(world.bench, [matrix], geometry=False)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Artifact, Artifact]:
    return reported(tmp_path_factory.mktemp("report") / "store")


@pytest.fixture(scope="module")
def page(made: tuple[World, Artifact, Artifact]) -> str:
    return (made[2].path / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rates(made: tuple[World, Artifact, Artifact]) -> dict[tuple[str, str, str], dict[str, str]]:
    rows = table(made[2].path / "rates.csv")
    found = {(r["target"], r["prompts"], r["source"]): r for r in rows}
    assert len(found) == len(rows) == 13
    return found


def test_report_holds_these_files_and_names_its_inputs(made: tuple[World, Artifact, Artifact]) -> None:
    _, matrix, found = made
    assert found.kind == "report"
    assert set(found.manifest["files"]) == FILES
    assert set(found.inputs) == {"transfer:1"}
    assert found.inputs["transfer:1"] == matrix.id


# n refusal compliance degenerate unparsed | refusal rate, low, high
# | paired: refusal to compliance, back, to degenerate, unparsed, net removed
# intervals by hand: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.959964
EXPECTED = {
    ("en", "harmful", ""): ("20 16 4 0 0", (0.8, 0.583985, 0.919326), None),
    ("en", "harmful", "ba"): ("20 11 9 0 0", (0.55, 0.342085, 0.741802), (6, 1, 0, 0, 0.25)),
    ("en", "harmful", "en"): ("20 1 19 0 0", (0.05, 0.00888092, 0.236131), (15, 0, 0, 0, 0.75)),
    ("ba", "harmful", ""): ("20 12 7 0 1", (12 / 19, 0.410395, 0.808505), None),
    ("ba", "harmful", "en"): ("20 3 17 0 0", (0.15, 0.0523690, 0.360420), (10, 1, 0, 1, 0.45)),
    ("ba", "harmful", "ba"): ("20 0 10 10 0", (0.0, 0.0, 0.161125), (4, 0, 10, 1, 0.2)),
    ("tg", "harmful", ""): ("20 0 20 0 0", (0.0, 0.0, 0.161125), None),
    ("tg", "harmful", "en"): ("20 0 20 0 0", (0.0, 0.0, 0.161125), (0, 0, 0, 0, 0.0)),
    ("tg", "harmful", "ba"): ("20 1 19 0 0", (0.05, 0.00888092, 0.236131), (0, 1, 0, 0, -0.05)),
    ("en", "harmless", ""): ("20 0 20 0 0", (0.0, 0.0, 0.161125), None),
    ("ba", "harmless", ""): ("20 2 18 0 0", (0.1, 0.0278665, 0.301034), None),
    ("tg", "harmless", ""): ("20 0 20 0 0", (0.0, 0.0, 0.161125), None),
}


@pytest.mark.parametrize("key", EXPECTED, ids="-".join)
def test_every_rate_is_the_one_computed_by_hand(
    rates: dict[tuple[str, str, str], dict[str, str]], key: tuple[str, str, str]
) -> None:
    counts, rate, moved = EXPECTED[key]
    row = rates[key]
    assert " ".join(row[k] for k in ("n", "refusal", "compliance", "degenerate", "unparsed")) == counts
    n, refused, complied, looped, unparsed = map(int, counts.split())
    assert int(row["labelled"]) == n - unparsed == refused + complied + looped
    shown = [float(row[k]) for k in ("refusal_rate", "refusal_low", "refusal_high")]
    assert shown == pytest.approx(rate, abs=2e-5)
    assert float(row["compliance_rate"]) == pytest.approx(complied / (n - unparsed), abs=1e-5)
    assert float(row["degenerate_rate"]) == pytest.approx(looped / (n - unparsed), abs=1e-5)
    columns = ("refusal_to_compliance", "compliance_to_refusal", "to_degenerate", "paired_unparsed", "net_removed")
    assert [row[k] for k in columns] == [""] * 5 if moved is None else [float(row[k]) for k in columns] == list(moved)


def test_a_missing_direction_is_said_and_never_a_number(
    rates: dict[tuple[str, str, str], dict[str, str]], page: str
) -> None:
    row = rates["tg", "harmful", "tg"]
    filled = {k for k, v in row.items() if v}
    assert filled == {"model", "target", "prompts", "condition", "source", "status", "transfer", "reason"}
    assert (row["status"], row["reason"]) == ("no direction", NO_DIRECTION)
    text = plain(page)
    assert f"no direction Nothing was measured for Tajik's own direction: {NO_DIRECTION}" in text
    assert f"Own direction (tg) ablated no direction: {NO_DIRECTION}" in text
    assert f"Tajik (tg) no direction: {NO_DIRECTION}" in text


def plain(page: str) -> str:
    body = page[page.index("<body>") :]
    text = re.sub(r"<svg.*?</svg>|<[^>]+>", " ", body, flags=re.DOTALL)
    text = unescape(text)
    return re.sub(r"\s+([,.;)])", r"\1", " ".join(text.split())).replace("( ", "(")


def test_summary_says_what_happened_and_where_nothing_can_be_told(page: str) -> None:
    text = plain("<body>" + page[page.index('id="summary"') : page.index('id="rates"')])
    assert "With the English direction ablated, Bashkir refusal went from 63 % to 15 % (n = 20)" in text
    assert "10 of 20 prompts went from refusal to compliance, 1 the other way." in text
    assert "uninformative With Bashkir's own direction ablated" in text
    assert "50% of the intervention's completions are degenerate" in text
    assert "In Tajik, the English direction cannot be tested here (at baseline at most 16%" in text
    # 6 of 20 one way and 1 back; 10 and 1 back, one baseline answer without a label
    for name, other, points in (("English", "Bashkir", 25), ("Bashkir", "English", 45)):
        said = (
            f"In {name}, the {other} direction may or may not transfer: this experiment cannot tell (+{points}% removed"
        )
        assert said in text


def test_every_link_leads_somewhere_and_ids_are_unique(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="([^"]*)"', page)
    assert links
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(ids)
    assert {u[1:] for u in re.findall(r"url\((#[^)]*)\)", page)} <= set(ids)


def test_every_table_number_links_to_its_artifact(made: tuple[World, Artifact, Artifact], page: str) -> None:
    _, matrix, _ = made
    cell = read_transfer(matrix).ablation("en", "ba")
    assert cell is not None
    assert f'<a href="#a-{short(cell.labels)}">15\N{NO-BREAK SPACE}%</a>' in page
    assert f'<a href="#a-{short(matrix.id)}">10</a>' in page
    tables = page[page.index('id="rates"') : page.index('id="provenance"')]
    for cell in re.findall(r"<td[^>]*>(.*?)</td>", tables, flags=re.DOTALL):
        bare = re.sub(r"<a .*?</a>|<span class=\"i\">.*?</span>|<code>.*?</code>", "", cell)
        assert not re.search(r"\d", bare) or "no direction" in bare or "arditi" in bare or " of " in bare, cell


def test_provenance_lists_every_artifact_in_full(made: tuple[World, Artifact, Artifact], page: str) -> None:
    world, _, found = made
    needed = {i for k, i in world.bench.store.ids() if k != "report"}
    assert needed == set(re.findall(r"<code>([0-9a-f]{64})</code></td>", page))
    assert found.id not in page


def test_page_is_self_contained_and_shows_no_text_of_prompts(page: str) -> None:
    assert not re.search(r'(src|href|action|data|poster)="(https?:)?//', page)
    assert "@import" not in page
    assert "<script" not in page
    assert "<link" not in page
    assert "url(http" not in page
    assert SECRET not in page
    assert '<html lang="en">' in page
    assert 'name="viewport"' in page
    assert (
        page.count('<svg role="img" aria-label="') == page.count("<svg ") == 3
    )  # compliance, rates, layers; the matrix is a table


def test_nan_appears_nowhere(made: tuple[World, Artifact, Artifact]) -> None:
    for path in made[2].path.iterdir():
        if path.suffix in (".html", ".csv", ".svg"):
            assert not re.search(r"\b(nan|NaN|inf|None)\b", path.read_text(encoding="utf-8")), path.name


def test_candidates_are_all_there_with_one_chosen(made: tuple[World, Artifact, Artifact]) -> None:
    rows = table(made[2].path / "candidates.csv")
    assert len(rows) == 2 * 18
    chosen = [r for r in rows if r["chosen"] == "true"]
    assert [(r["lang"], r["pos"], r["layer"], r["token"]) for r in chosen] == [
        ("en", "-1", "3", r"'\n'"), ("ba", "-1", "3", r"'\n'")
    ]  # fmt: skip
    assert [(r["bypass"], r["induce"], r["kl"], r["bootstrap_share"]) for r in chosen] == [
        ("-5", "2.5", "0.02", "0.812")
    ] * 2
    first = next(r for r in rows if (r["lang"], r["pos"], r["layer"]) == ("en", "-5", "0"))
    # 7 steps from the best: KL 0.02 * 3**7, far above the rule's 0.1
    assert (first["kl"], first["passes"], first["bootstrap_share"]) == ("43.74", "false", "0")
    assert sum(r["passes"] == "true" for r in rows) == 2 * 4


def test_limits_name_the_grid_the_prompts_and_the_smallest_effect(page: str) -> None:
    text = plain(page)
    assert "Smallest effect with n = 20 (English (en), Bashkir (ba), Tajik (tg))." in text
    assert "at least 6 prompts that change, all one way" in text
    assert "a net change below 6/20 = 30 %" in text
    assert "Grid (English (en), Bashkir (ba)): 18 candidates, positions -5, -2, -1, layers 0 to 5." in text
    assert "5 of 8 harmful, 8 of 8 harmless" in text
    assert "The judge is weak. “substring” looks for listed refusal phrases" in text
    assert "none reviewed by native speakers" in text
    assert "Answers are cut at 48 tokens" in text
    assert "The harmful test prompts have the same ids in every target language." in text


def test_settings_can_be_run_again(page: str, tmp_path: Path) -> None:
    from refusalctl.resolve import resolve

    block = re.findall(r"<pre\b[^>]*>(.*?)</pre>", page, flags=re.DOTALL)[1]
    path = tmp_path / "experiment.toml"
    path.write_text(unescape(block), encoding="utf-8")
    asked = resolve({}, path, {})
    assert asked.settings == EXPERIMENT
    assert (asked.machine.model, asked.machine.dtype, asked.machine.attention) == ("tiny-llama", "float32", "auto")


def test_twice_gives_the_same_bytes(made: tuple[World, Artifact, Artifact], tmp_path: Path) -> None:
    _, _, again = reported(tmp_path / "another")
    assert again.manifest["files"] == made[2].manifest["files"]
    assert again.id == made[2].id


def test_a_transfer_file_of_another_version_is_refused(tmp_path: Path) -> None:
    world, matrix = transferred(tmp_path)
    path = matrix.path / Transfer.FILE
    path.write_bytes(path.read_bytes().replace(b'"version":4', b'"version":9'))
    with pytest.raises(Corrupt, match=r"transfer\.json has format version 9"):
        sources.content(world.bench.store, matrix)


def test_a_borrowed_direction_is_found_out(tmp_path: Path) -> None:
    world = World(tmp_path)
    copied = world.selection("ba", prompts_lang="en")  # called Bashkir, extracted from English prompts
    matrix = world.transfer({"en": world.selection("en"), "ba": copied})
    with pytest.raises(Corrupt, match="used the direction of en"):
        make_report(world.bench, [matrix], geometry=False)


def test_a_direction_beside_the_matrix_is_followed_too(tmp_path: Path) -> None:
    world = World(tmp_path)
    matrix = world.transfer({lang: world.selection(lang) for lang in ("en", "ba")})

    def add(value: dict[str, Any]) -> None:
        cell = next(c for c in value["cells"] if (c["source"], c["target"]) == ("ba", "en"))
        value["cells"].append(cell | {"condition": "induced", "source": "en", "coeff": 1.0})

    with pytest.raises(Corrupt, match=r"cell en>en .* used the direction of ba"):
        sources.content(world.bench.store, world.changed(matrix, add))


@pytest.mark.parametrize("borrowed", [None, "harmful", "selection"])
def test_a_subspace_is_of_the_language_of_all_its_prompts(tmp_path: Path, borrowed: str | None) -> None:
    world = World(tmp_path)
    inputs = {"selection": world.selection("ba", prompts_lang="en" if borrowed == "selection" else None)}
    for kind in ("harmful", "harmless"):
        train = world.prompts("en" if borrowed == kind else "ba", kind, "train", 16)
        inputs[kind] = world.put(COLLECT, {"positions": None}, {"prompts": train}, dict(train.about))
    basis = world.put(SUBSPACE, {"rank": 2}, inputs, {"lang": "ba"})
    found = Provenance(world.bench.store, basis)
    if borrowed is None:
        assert found.source_language(basis) == "ba"
    else:
        with pytest.raises(Corrupt, match=r"extracted from prompts in \['ba', 'en'\], expected one"):
            found.source_language(basis)


def test_every_kind_of_ablation_is_checked_and_no_other_intervention(tmp_path: Path) -> None:
    store, made = World(tmp_path).bench.store, []
    for kind in KINDS:
        with store.draft() as out:
            (out / "text").write_text(kind)
            recipe = {"step": "t", "params": {"kind": kind}, "inputs": {}}
            checks = {"hooks_fired": 5, "max_relative_projection": 1e-7}
            made.append(store.commit(out, "completions", recipe, {"intervention": kind}, {"checks": checks}))
    assert quality._check(store, made) == (3, 0, 15, 1e-7)


def test_a_cell_measured_on_another_languages_prompts_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published 'native' Belarusian and Tajik ablations were evaluated on English prompts."""
    world = World(tmp_path)
    draw = world.prompts

    def english(lang: str, kind: str, split: str, n: int) -> Artifact:
        return draw("en" if (lang, kind, split) == ("ba", "harmful", "test") else lang, kind, split, n)

    monkeypatch.setattr(world, "prompts", english)
    matrix = world.transfer({lang: world.selection(lang) for lang in ("en", "ba")})
    with pytest.raises(Corrupt, match=r"cell baseline>ba .* was measured on en prompts"):
        sources.content(world.bench.store, matrix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cell, other: cell.update(labels=other["labels"]), "the labels are of other completions"),
        (lambda cell, _: cell["counts"].update(refusal=20), "the counts do not add up to n"),
    ],
)
def test_numbers_that_are_not_those_of_the_cells_labels_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None], message: str
) -> None:
    world = World(tmp_path)
    matrix = world.transfer({lang: world.selection(lang) for lang in ("en", "ba")})
    changed = world.changed(matrix, lambda value: change(*value["cells"][:2]))
    with pytest.raises(Corrupt, match=message):
        sources.content(world.bench.store, changed)


def test_labels_of_another_cells_answers_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a cell says it measured comes from its completions, not from whatever its labels are of."""
    world = World(tmp_path)
    measured = world.cells

    def mixed(chosen: dict[str, Artifact]) -> Any:
        cells, calm = measured(chosen)
        return [replace(cells[0], labels=cells[1].labels), *cells[1:]], calm

    monkeypatch.setattr(world, "cells", mixed)
    matrix = world.transfer({lang: world.selection(lang) for lang in ("en", "ba")})
    with pytest.raises(Corrupt, match="the labels are of other completions"):
        sources.content(world.bench.store, matrix)


def test_bars_are_as_high_as_the_labels_say(tmp_path: Path) -> None:
    """A published figure showed a baseline of 1.00 where its own labels gave 0.05."""
    world = World(tmp_path)
    matrix = world.transfer({lang: world.selection(lang) for lang in ("en", "ba")})
    rows = sources.content(world.bench.store, matrix)
    shown = [c for target in rows.targets for c in rows.of(target) if (target, c.source) in HARMFUL]
    letters = [HARMFUL[c.target, c.source] for c in shown]
    heights = [100 * each.count("R") / (20 - each.count("U")) for each in letters]
    bars = refusal_rates(rows, "en").axes[0].patches
    assert [bar.get_height() for bar in bars] == pytest.approx(heights)  # type: ignore[attr-defined]


def assert_notes_fit(figure: Figure) -> None:
    figure.draw_without_rendering()
    for text in figure.texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, f"{text.get_text()!r} is cut off"


def test_answers_in_another_language_carry_the_rules_dagger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures mark what the verdict rule cannot use, by the rule's own limit."""

    def marked(letters: str, root: Path) -> tuple[list[int], list[list[str]]]:
        monkeypatch.setitem(HARMFUL, ("ba", "ba"), letters)
        world = World(root)
        matrix = world.transfer({lang: world.selection(lang) for lang in ("en", "ba")})
        rows = sources.content(world.bench.store, matrix)
        figures = (refusal_rates(rows, "en"), transfer_matrix(rows))
        for each in figures:
            assert_notes_fit(each)
        daggers = [sum("†" in text.get_text() for text in each.axes[0].texts) for each in figures]
        return daggers, [[text.get_text().replace("\n", " ") for text in each.texts] for each in figures]

    outlined = "outlined: the language's own direction"
    footnote = "† over 20 % of all answers are degenerate, off-language or unparsed"
    assert marked("OOOO" + "C" * 16, tmp_path / "a_fifth") == ([0, 0], [[], [outlined]])
    # the matrix shows a source's native cell in its row and in the row of targets' own directions
    both = ([1, 2], [[footnote], [f"{outlined}; {footnote}"]])
    assert marked("OOOOO" + "C" * 15, tmp_path / "more") == both
    assert marked("OODDU" + "C" * 15, tmp_path / "together") == both


def test_a_cell_without_a_reason_to_be_missing_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    matrix = world.transfer({lang: world.selection(lang) for lang in ("en", "ba")}, leave_out="en>ba")
    with pytest.raises(Corrupt, match="there is no cell en>ba, and no reason why"):
        make_report(world.bench, [matrix], geometry=False)


def test_a_lost_input_is_named(tmp_path: Path) -> None:
    world, matrix = transferred(tmp_path)
    lost = world.bench.store.all("openings")[0]
    garbage.remove(world.bench.store, lost.kind, lost.id)
    with pytest.raises(NotFound, match=short(lost.id)):
        sources.content(world.bench.store, matrix)


@pytest.mark.usefixtures("undrawn")
def test_an_answer_set_without_labels_has_no_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HARMFUL, ("en", "ba"), "U" * 20)
    _, _, found = reported(tmp_path)
    rows = table(found.path / "rates.csv")
    row = next(r for r in rows if (r["target"], r["source"]) == ("en", "ba"))
    assert (row["n"], row["unparsed"], row["labelled"], row["refusal_rate"]) == ("20", "20", "0", "")
    text = plain((found.path / "report.html").read_text(encoding="utf-8"))
    assert "English refusal went from 80 % to no label" in text


@pytest.mark.usefixtures("undrawn")
def test_compliance_in_another_language_is_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HARMFUL, ("en", None), "R" * 12 + "C" * 3 + "O" * 5)
    _, _, found = reported(tmp_path)
    row = next(r for r in table(found.path / "rates.csv") if (r["target"], r["condition"]) == ("en", "baseline"))
    assert [row[k] for k in ("n", "refusal", "compliance", "off_language", "labelled")] == ["20", "12", "3", "5", "20"]
    assert float(row["compliance_rate"]) == 3 / 20
    text = plain((found.path / "report.html").read_text(encoding="utf-8"))
    assert "Baseline, harmful prompts 20 12 60 % [39–78] 15 % [5–36] 0 5 0" in text


def test_command_reports_on_the_newest_transfer_and_copies(
    made: tuple[World, Artifact, Artifact], tmp_path: Path
) -> None:
    from refusalctl.cli.app import app

    world, _, found = made
    store = str(world.bench.store.root)
    result = CliRunner().invoke(app, ["report", "--no-geometry", "--store", store, "--out", str(tmp_path / "copy")])
    assert result.exit_code == 0, result.output
    assert result.stdout == found.id + "\n"
    assert {p.name for p in (tmp_path / "copy").iterdir()} == FILES


def test_newest_transfer_is_the_one_finished_last(tmp_path: Path) -> None:
    from refusalctl.study import Study

    world = World(tmp_path)
    chosen = {lang: world.selection(lang) for lang in ("en", "ba")}
    made = [world.transfer(chosen), world.transfer(chosen, leave_out="en>ba")]
    for touched in made:  # a copy changes the times of files, and not which was finished last
        for each in made:
            stamp = 2_000_000_000 if each is touched else 1_000_000_000
            os.utime(each.path / "manifest.json", (stamp, stamp))
        assert Study(store=world.bench.store.root).transfers([])[0].id == made[-1].id


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_a_report_on_a_full_disk_is_one_clear_line_and_leaves_the_store_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    world, matrix = transferred(tmp_path / "store")
    before = set(world.bench.store.ids())
    with monkeypatch.context() as patch:
        full_for(patch, name)
        with pytest.raises(StoreError, match="the disk is full"):
            make_report(world.bench, [matrix], geometry=False)
    assert set(world.bench.store.ids()) == before
    assert not [path for room in ("tmp", "partial") for path in (world.bench.store.root / room).glob("*")]
    assert (make_report(world.bench, [matrix], geometry=False).path / name).is_file()


def test_command_without_a_transfer_says_what_to_run(tmp_path: Path) -> None:
    from refusalctl.cli.app import app

    result = CliRunner().invoke(app, ["report", "--store", str(tmp_path)])
    assert isinstance(result.exception, NotFound)
    assert "refusalctl transfer" in str(result.exception)
