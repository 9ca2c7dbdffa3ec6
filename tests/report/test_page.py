"""What a page says beyond rates: verdicts, several runs, published figures, answers, prompts left out, comparison."""

from __future__ import annotations

import csv
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from refusalctl.data import published_rates
from refusalctl.errors import BadInput, Corrupt
from refusalctl.model.reasoning import Thinking
from refusalctl.records.transfer import Transfer
from refusalctl.report import sources, words
from refusalctl.report.comparison import compare_transfers
from refusalctl.report.content import told_apart
from refusalctl.report.figures import compliance
from refusalctl.report.figures.style import VARIABLES
from refusalctl.report.figures.style import plain as plain_title
from refusalctl.report.make import make_report
from refusalctl.report.page import shade
from refusalctl.store.store import Artifact
from tests.steps.world import World

pytestmark = pytest.mark.xdist_group("page")  # one worker makes what these tests share

HOSTILE = "</dd></details><script>alert(1)</script><img src=x onerror=alert(2)>\u202e&amp;{{ 7*7 }}"


def ruled(value: str, removed: float, low: float, high: float, n_needed: int | None = None) -> dict[str, Any]:
    """A verdict as it stands in a transfer's file."""
    limits = {"interval95": [low, high], "interval90": [low, high]}
    told = {"value": value, "reason": f"because of {value}", "removed": removed, "headroom": 0.9, "n": 20}
    return told | limits | {"n_needed": n_needed}


VERDICTS = {
    ("en", "ba"): ruled("transfers", 0.25, 0.12, 0.4),
    ("en", "en"): ruled("transfers", 0.75, 0.5, 0.9),
    ("ba", "en"): ruled("inconclusive", 0.45, -0.02, 0.6, n_needed=240),
    ("ba", "ba"): ruled("uninformative", 0.2, 0.0, 0.4),
    ("tg", "en"): ruled("reverses", -0.3, -0.5, -0.11),
    ("tg", "ba"): ruled("does not transfer", 0.0, -0.08, 0.08),
}


def add_verdicts(value: dict[str, Any]) -> None:
    for cell in value["cells"]:
        if cell["source"] is not None:
            cell["removal"] = VERDICTS[cell["target"], cell["source"]]


def add_controls(value: dict[str, Any]) -> None:
    """A control cell on artifacts that are there."""
    model = next(c for c in value["cells"] if (c["target"], c["source"]) == ("ba", "en"))
    value["cells"].append({**model, "condition": "within_class", "draw": 3, "removal": None})


def a_world(root: Path, **how: Any) -> tuple[World, Artifact]:
    world = World(root, **how)
    return world, world.transfer({lang: world.selection(lang) for lang in ("en", "ba")})


def text_of(page: str) -> str:
    body = re.sub(r"<svg.*?</svg>|<[^>]+>", " ", page[page.index("<body>") :], flags=re.DOTALL)
    return re.sub(r"\s+([,.;)])", r"\1", " ".join(unescape(body).split())).replace("( ", "(")


def html(found: Artifact) -> str:
    return (found.path / "report.html").read_text(encoding="utf-8")


# --- verdicts ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Artifact, Artifact]:
    world, matrix = a_world(tmp_path_factory.mktemp("judged") / "store")

    def change(value: dict[str, Any]) -> None:
        add_verdicts(value)
        add_controls(value)

    changed = world.changed(matrix, change)
    return world, changed, make_report(world.bench, [changed], geometry=False)


def test_each_target_is_answered_in_one_sentence(judged: tuple[World, Artifact, Artifact]) -> None:
    text = text_of(html(judged[2]))
    assert "In English, the Bashkir direction transfers; it removes 25 points of refusals (95\N{NO-BREAK SPACE}%: 12 to 40)." in text.replace("95 %", "95\N{NO-BREAK SPACE}%")  # fmt: skip  # noqa: E501
    assert "In Bashkir, the English direction may or may not transfer: this experiment cannot tell" in text
    assert "In Tajik, the English direction makes the model refuse more; it adds 30 points of refusals" in text
    assert "11 to 50). Other directions: does not transfer (Bashkir)." in text


def test_induction_answers_where_the_baseline_refuses_nothing(tmp_path: Path, undrawn: None) -> None:
    world, matrix = a_world(tmp_path)

    def induced(value: dict[str, Any]) -> None:
        cell = next(c for c in value["cells"] if (c["target"], c["source"]) == ("tg", "en"))
        cell["induction"] = ruled("transfers", 0.8, 0.6, 0.9)

    text = text_of(html(make_report(world.bench, [world.changed(matrix, induced)], geometry=False)))
    assert "In Tajik, the English direction cannot be tested here" in text
    assert "; added to harmless prompts, it makes the model refuse them: the direction acts here" in text


def test_the_page_says_first_where_controls_were_switched_off(
    judged: tuple[World, Artifact, Artifact], tmp_path: Path, undrawn: None
) -> None:
    world, matrix = a_world(tmp_path)

    def off(value: dict[str, Any]) -> None:
        value["settings"]["controls"]["controls"] = False

    text = text_of(html(make_report(world.bench, [world.changed(matrix, off)], geometry=False)))
    told = "Control directions were switched off (--no-controls): no cell is called “transfers” or “reverses”."
    assert text.startswith(f"Does a refusal direction carry over between languages? {told}")
    assert "switched off" not in text_of(html(judged[2]))


def test_the_page_says_what_the_model_was_made_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    world, matrix = a_world(tmp_path)
    assert "The right answer is known" not in html(make_report(world.bench, [matrix], geometry=False))
    monkeypatch.setattr(sources, "known_truth", lambda model: f"Built: <b>{model['name']}</b>.")
    world, matrix = a_world(tmp_path / "other")
    page = html(make_report(world.bench, [matrix], geometry=False))
    assert "The right answer is known. Built: <b>tiny-llama</b>." in text_of(page)
    assert "<b>tiny" not in page


def test_a_verdict_is_never_colour_alone(judged: tuple[World, Artifact, Artifact]) -> None:
    page = html(judged[2])
    for value, mark in words.MARKS.items():
        assert f"{mark} {value}" in text_of(page)
    heat = page[page.index('class="heat"') : page.index("</table>", page.index('class="heat"'))]
    assert heat.count('aria-label="transfers"') == 2
    assert "does not transfer" in heat


def test_controls_are_listed_apart_and_named(judged: tuple[World, Artifact, Artifact]) -> None:
    page = html(judged[2])
    controls = page[page.index("<h4>Controls</h4>") : page.index("<h4>Prompts that took part</h4>")]
    assert "Control direction (English), draw 3" in controls
    assert "All 1 conditions beside ablation" in controls
    rows = list(csv.DictReader((judged[2].path / "rates.csv").read_text(encoding="utf-8").splitlines()))
    assert [r["condition"] for r in rows].count("within_class (draw 3)") == 1
    assert len(rows) == 14


def test_tables_carry_the_verdicts(judged: tuple[World, Artifact, Artifact]) -> None:
    rows = list(csv.DictReader((judged[2].path / "rates.csv").read_text(encoding="utf-8").splitlines()))
    row = next(r for r in rows if (r["target"], r["source"]) == ("tg", "en"))
    assert [row[k] for k in ("verdict", "removed", "removed_low", "removed_high")] == [
        "reverses",
        "-0.3",
        "-0.5",
        "-0.11",
    ]
    record = json.loads((judged[2].path / "report.json").read_text(encoding="utf-8"))
    assert (record["format"], record["version"]) == ("refusalctl.report", 5)
    answers = record["runs"][0]["answers"]
    assert {k: v["value"] for k, v in answers.items()} == {"en": "transfers", "ba": "inconclusive", "tg": "reverses"}
    assert [(c["source"], c["target"]) for c in record["runs"][0]["missing"]] == [("tg", "tg")]
    assert set(record["runs"][0]["missing"][0]) == {"source", "target", "condition", "reason", "status"}  # no number
    reverses = next(c for c in record["runs"][0]["cells"] if (c["target"], c["source"]) == ("tg", "en"))
    assert (reverses["removal"]["removed"], reverses["removal"]["interval95"]) == (-0.3, [-0.5, -0.11])


def test_an_unknown_verdict_is_refused(tmp_path: Path) -> None:
    world, matrix = a_world(tmp_path)

    def change(value: dict[str, Any]) -> None:
        value["cells"][1]["removal"] = ruled("works", 1, 1, 1)

    with pytest.raises(Corrupt, match=r"'works'.*cells\[1\]\.removal\.value"):
        make_report(world.bench, [world.changed(matrix, change)], geometry=False)


def test_markdown_and_latex_say_the_same(judged: tuple[World, Artifact, Artifact]) -> None:
    markdown = (judged[2].path / "report.md").read_text(encoding="utf-8")
    row = next(line for line in markdown.splitlines() if line.startswith("| Bashkir | English direction ablated"))
    assert row == "| Bashkir | English direction ablated | 20 | 15 | 5–36 | 85 | +45 | inconclusive |"
    latex = (judged[2].path / "report.tex").read_text(encoding="utf-8")
    assert r"Bashkir & English direction ablated & 20 & 15 & 5--36 & 85 & +45 & inconclusive \\" in latex
    assert latex.count(r"\begin{longtable}") == latex.count(r"\end{longtable}") == 1
    assert not re.search(
        r"(?<!\\)[%&#_$](?![^\n]*\\\\)", latex.split(r"\midrule")[1].replace(" & ", " ").replace("$-$", "")
    )


# --- answers: untrusted text -------------------------------------------------------------------------


class Tags(HTMLParser):
    """Elements and attributes of a page as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.depth_of_answers: list[bool] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "src"]
        if tag in ("details", "dd"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("details", "dd") and self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "alert(1)" in data:
            self.depth_of_answers.append(self.open == ["details", "dd"])


def test_answers_are_shown_only_when_asked_for(tmp_path: Path, undrawn: None) -> None:
    world, matrix = a_world(tmp_path, text=HOSTILE)
    without = html(make_report(world.bench, [matrix], geometry=False))
    assert "alert" not in without
    page = html(make_report(world.bench, [matrix], geometry=False, with_text=True))
    seen = Tags()
    seen.feed(page)
    assert not {"script", "img", "iframe", "object", "link"} & set(seen.tags)
    assert not seen.handlers
    assert len(seen.depth_of_answers) == 12 * 20
    assert all(seen.depth_of_answers)  # every one inside a <details>, which starts closed
    answers = page[page.index('id="texts"') : page.index('id="limits"')]
    assert "<details open" not in answers
    assert "{{ 7*7 }}" in page
    assert "default-src 'none'" in page


def test_a_hostile_name_is_text_too(tmp_path: Path, undrawn: None) -> None:
    world, matrix = a_world(tmp_path, model="<script>alert(1)</script>")
    found = make_report(world.bench, [matrix], geometry=False, published=True)
    seen = Tags()
    seen.feed(html(found))
    assert "script" not in seen.tags
    assert "<script>" not in (found.path / "report.md").read_text(encoding="utf-8")


def test_what_was_done_about_thoughts_is_said(tmp_path: Path, undrawn: None) -> None:
    world = World(tmp_path)
    world.bench.thoughts[world.bench.machine] = Thinking("on", "template")
    matrix = world.transfer({lang: world.selection(lang) for lang in ("en", "ba")})
    found = make_report(world.bench, [matrix], geometry=False)
    assert words.thoughts("on:template") in unescape(html(found))
    assert 'thinking = "on"' in unescape(html(found))


# --- several runs, published figures -----------------------------------------------------------------


def test_several_models_share_a_page_and_keep_their_figures_apart(tmp_path: Path) -> None:
    first, one = a_world(tmp_path, model="model-one")
    _, two = a_world(tmp_path, model="model-two")
    found = make_report(first.bench, [one, two], geometry=False)
    names = set(found.manifest["files"])
    assert {"compliance.svg", "run1-refusal_rates.pdf", "run2-refusal_rates.pdf"} <= names
    page = html(found)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    links = {link[1:] for link in re.findall(r'href="(#[^"]*)"', page)}
    assert links <= set(ids)
    assert {u[1:] for u in re.findall(r"url\((#[^)]*)\)", page)} <= set(ids)
    assert text_of(page).count("model-one, model-two · directions from") == 1
    rows = list(csv.DictReader((found.path / "rates.csv").read_text(encoding="utf-8").splitlines()))
    assert {r["model"] for r in rows} == {"model-one", "model-two"}


def test_two_models_of_one_name_are_told_apart_wherever_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(compliance, "plain", lambda text: titles.append(text) or plain_title(text))
    first, one = a_world(tmp_path, model="tiny", revision="files-11111111aaaa")
    _, two = a_world(tmp_path, model="tiny", revision="files-22222222bbbb")
    found = make_report(first.bench, [one, two], geometry=False)
    names = ["tiny@11111111", "tiny@22222222"]
    assert found.about["model"] == " + ".join(names)
    text = text_of(html(found))
    assert text.count("tiny@11111111, tiny@22222222 · directions from") == 1
    for file in ("rates.csv", "candidates.csv"):
        rows = csv.DictReader((found.path / file).read_text(encoding="utf-8").splitlines())
        assert list(dict.fromkeys(row["model"] for row in rows)) == names
    markdown = (found.path / "report.md").read_text(encoding="utf-8")
    assert [line for line in markdown.splitlines() if line.startswith("## ")] == [f"## {name}" for name in names]
    latex = (found.path / "report.tex").read_text(encoding="utf-8")
    assert all(f"\\caption{{{name}: refusal" in latex for name in names)
    assert [title for title in titles if title.startswith("tiny")] == names
    compared = text_of(html(compare_transfers(first.bench, [one, two])))
    assert "First: tiny@11111111, judge" in compared
    assert "Second: tiny@22222222, judge" in compared


def test_names_are_told_apart_by_what_differs_and_no_further() -> None:
    def named(*models: tuple[str, str, str]) -> list[str]:
        return told_apart([{"name": n, "revision": r, "dtype": d} for n, r, d in models])  # type: ignore[misc]

    a, b = ("tiny", "files-" + "1" * 64, "float32"), ("tiny", "2" * 40, "float32")
    assert named(a, a) == ["tiny", "tiny"]
    assert named(a, ("other", *b[1:])) == ["tiny", "other"]
    assert named(a, b, a) == ["tiny@11111111", "tiny@22222222", "tiny@11111111"]
    assert named(a, (*a[:2], "bfloat16")) == ["tiny (float32)", "tiny (bfloat16)"]
    arms = [{"name": "tiny", "revision": "1", "dtype": "float32", "system": s} for s in (None, "", "Be kind " * 9)]
    assert told_apart(arms) == [  # type: ignore[arg-type]
        "tiny (own system prompt)", "tiny (no system prompt)", "tiny (system: Be kind Be kind Be kind\u2026)"
    ]  # fmt: skip
    assert told_apart(arms[:1] * 2) == ["tiny", "tiny"]  # type: ignore[arg-type]


def test_published_figures_are_those_of_the_paper() -> None:
    rows = {(r.table, r.model): r for r in published_rates.work().rows}
    assert len(rows) == 13
    assert rows["figure-en", "Qwen2.5-32B-Instruct"].compliance["de"] == (0.08, 0.58)
    assert rows["figure-en", "gemma-2-9b-it"].compliance["yo"] == (0.57, 0.88)
    assert rows["sweep-ja", "Qwen2.5-7B-Instruct"].compliance["yo"] == (0.766, 0.748)
    harmful = rows["sweep-ja", "Llama-3.1-8B-Instruct"].harmful
    assert harmful is not None
    assert harmful["en"] == (0.003, 0.925)
    for row in rows.values():
        assert len(row.compliance) == 14
        assert all(0 <= v <= 1 for pair in row.compliance.values() for v in pair)


def test_published_figures_stand_beside_those_of_the_same_model(tmp_path: Path, undrawn: None) -> None:
    world, matrix = a_world(tmp_path, model="Qwen/Qwen2.5-7B-Instruct")
    plain = html(make_report(world.bench, [matrix], geometry=False))
    assert "arXiv 2505.17306)." in plain
    assert "Beside the published figures" not in plain
    page = html(make_report(world.bench, [matrix], geometry=False, published=True))
    text = text_of(page)
    assert "read off the figure" in text
    assert "±.004" in text
    # English: published .09 -> .99; here 4 and 19 of 20
    assert re.search(r"English \(en\) 9 % 20 % \[8–42\] 99 % 95 % \[76–99\] −4", text)
    assert "Bashkir (ba) 9" not in text


def test_a_model_without_published_figures_is_not_compared(tmp_path: Path, undrawn: None) -> None:
    world, matrix = a_world(tmp_path)
    text = text_of(html(make_report(world.bench, [matrix], geometry=False, published=True)))
    assert "is not among the published rows, so nothing can be compared" in text
    assert "Qwen2.5-32B-Instruct" in text


def test_published_figures_need_the_same_source_language() -> None:
    assert published_rates.work().of("Qwen/Qwen2.5-7B-Instruct@abc", ["en"])[0].table == "figure-en"
    assert published_rates.work().of("qwen/qwen2.5-7b-instruct", ["be"]) == []
    assert len(published_rates.work().of("google/gemma-2-9b-it", ["en", "ja"])) == 2
    assert published_rates.work().of("Qwen/Qwen2.5-7B", ["en"]) == []


def test_a_reference_that_is_no_source_is_refused(tmp_path: Path) -> None:
    world, matrix = a_world(tmp_path)
    with pytest.raises(BadInput, match="'tg' is no source language"):
        make_report(world.bench, [matrix], geometry=False, reference="tg")


# --- looks -------------------------------------------------------------------------------------------


def test_heat_classes_follow_the_share() -> None:
    assert [shade(v) for v in (0.0, 0.04, 0.46, 1.0, -0.04, -0.05, -0.19, -1.0)] == [
        "q0", "q0", "q5", "q10", "q0", "n1", "n2", "n3"
    ]  # fmt: skip


def test_figures_take_the_page_s_colours_and_keep_their_glyph_scale(judged: tuple[World, Artifact, Artifact]) -> None:
    page = html(judged[2])
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    for colour, variable in VARIABLES.items():
        assert colour.lower() not in drawn.lower()
        assert f"{variable[4:-1]}:" in page  # defined, though not every page draws it
    assert "var(--ink)" in drawn
    assert "var(--blue)" in drawn
    assert "scale(0.015625)" in drawn
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


# --- prompts left out --------------------------------------------------------------------------------


def test_every_excluded_prompt_has_its_reason(judged: tuple[World, Artifact, Artifact]) -> None:
    rows = list(csv.DictReader((judged[2].path / "excluded.csv").read_text(encoding="utf-8").splitlines()))
    filtered = [r for r in rows if r["split"] == "val"]
    # the selections kept 5 of 8 harmful validation prompts
    assert [r["prompt_id"] for r in filtered if r["langs"] == "en"] == [
        "harmful-val-05",
        "harmful-val-06",
        "harmful-val-07",
    ]
    assert {r["reason"] for r in filtered} == {"baseline refusal score 1.00, not above 0"}
    page = html(judged[2])
    assert "harmful-val-05</code>" in page


def test_flagged_prompts_are_listed_once_for_all_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from refusalctl.data import sets
    from refusalctl.records.rows import Prompt
    from refusalctl.report import excluded
    from refusalctl.store.hashing import canonical

    rows = {
        lang: (
            Prompt("a", lang, "harmful", "test", "x"),
            Prompt("b", lang, "harmful", "test", "x", flags=("duplicate",)),
            Prompt("c", lang, "harmful", "test", "x", flags=("entities",)),
        )
        for lang in ("en", "ba")
    }
    fake = SimpleNamespace(UNFIT=sets.UNFIT, prompts=lambda _data, lang: rows[lang])
    monkeypatch.setattr(excluded, "sets", fake)
    found = excluded.unfit("any", ["en", "ba"])
    assert found.rows == (("harmful", "test", "b", "duplicate", ("ba", "en")),)
    assert found.fit == {"en test harmful": 2, "ba test harmful": 2}
    assert json.loads(canonical(found.to_json())) == {  # as recipes hold it
        "rows": [["harmful", "test", "b", "duplicate", ["ba", "en"]]],
        "fit": {"en test harmful": 2, "ba test harmful": 2},
    }


def test_a_prompt_set_that_is_not_here_is_said(tmp_path: Path) -> None:
    from refusalctl.report.excluded import unfit

    assert "there is no prompt set 'no-such-set'" in str(unfit("no-such-set", ["en"]).unreadable)


# --- command -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "begins"),
    [("md", "# Refusal across languages"), ("csv", "model,target,prompts"), ("latex", "% \\usepackage"), ("json", "{")],
)
def test_a_table_is_printed_in_its_format(judged: tuple[World, Artifact, Artifact], kind: str, begins: str) -> None:
    from refusalctl.cli.app import app

    world, matrix, found = judged
    asked = ["report", matrix.id, "--no-geometry", "--store", str(world.bench.store.root), "--format", kind]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(begins)
    assert found.id not in result.stdout


def test_the_commands_json_is_its_schemas(judged: tuple[World, Artifact, Artifact]) -> None:
    from refusalctl.cli.app import app
    from refusalctl.records.printed import PrintedReport

    world, matrix, found = judged
    asked = ["report", matrix.id, "--no-geometry", "--store", str(world.bench.store.root), "--json"]
    printed = msgspec.json.decode(CliRunner().invoke(app, asked).stdout, type=PrintedReport)
    assert printed.id == found.id


def test_figures_of_one_format_are_copied_and_named(judged: tuple[World, Artifact, Artifact], tmp_path: Path) -> None:
    from refusalctl.cli.app import app

    world, matrix, _ = judged
    asked = ["report", matrix.id, "--no-geometry", "--store", str(world.bench.store.root), "--format", "pdf"]
    result = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "figures")])
    assert result.exit_code == 0, result.output
    names = sorted(p.name for p in (tmp_path / "figures").iterdir())
    assert names == ["compliance.pdf", "layer_scores.pdf", "refusal_rates.pdf", "transfer_matrix.pdf"]
    assert result.stdout.splitlines() == [str(tmp_path / "figures" / n) for n in names]
    assert (tmp_path / "figures" / names[0]).read_bytes().startswith(b"%PDF")


def test_an_unknown_format_is_a_usage_error(judged: tuple[World, Artifact, Artifact]) -> None:
    from refusalctl.cli.app import app

    result = CliRunner().invoke(app, ["report", "--store", str(judged[0].bench.store.root), "--format", "doc"])
    assert result.exit_code == 2


def test_a_transfer_knows_nothing_of_text(judged: tuple[World, Artifact, Artifact]) -> None:
    value = (judged[1].path / Transfer.FILE).read_text(encoding="utf-8")
    assert "SECRET" not in value
