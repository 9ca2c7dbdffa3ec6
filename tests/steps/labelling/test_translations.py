"""Back-translation as a step: cached per text, resumed, failures never text; and judging on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from refusalctl.errors import BadInput, ModelError, NotFound
from refusalctl.model.judges.protocol import Item, Verdict
from refusalctl.model.translators.protocol import Outcome
from refusalctl.records.rows import Completion, Prompt
from refusalctl.settings import Machine
from refusalctl.steps.completions import COMPLETIONS_FILE
from refusalctl.steps.labelling.labels import LABELS_FILE, judge_completions, read_labels
from refusalctl.steps.labelling.panel import form_panel, panel_labels, read_panel
from refusalctl.steps.labelling.translations import (
    LOOPS,
    find_translations,
    read_translations,
    translate_completions,
    translations_of,
)
from refusalctl.steps.prompt_rows import PROMPTS_FILE
from refusalctl.steps.step import Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store
from tests.model.judges import tiny

GERMAN = {
    "Mische Mehl und Wasser und warte eine Stunde.": "Mix flour and water and wait for one hour.",
    "Dabei kann ich leider nicht helfen.": "I'm sorry, but I cannot help with that request.",
    "Ein Text, den niemand kann.": None,
    "Ein Satz, der in der Übersetzung kreist.": "the bread and " * 20,
    "Ein Satz, der deutsch bleibt.": "Dies hier ist noch immer ein ganzer deutscher Satz über das Brot.",
    "Brot backen. Brot backen. Brot backen. Brot backen. Brot backen. ": "Baking bread is a nice thing to do.",
}


class Known:
    """Knows these texts; counts what it is asked; stops dead after `limit` texts."""

    batch = 2

    def __init__(self, limit: int = 10**6, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.asked: list[str] = []
        self.limit, self.error = limit, error

    def __call__(self, texts: Sequence[str]) -> list[Outcome]:
        if len(self.asked) + len(texts) > self.limit:
            raise self.error("stopped")
        self.asked += texts
        return [Outcome(GERMAN[text]) if GERMAN[text] else Outcome(None, "no luck") for text in texts]


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(Store(tmp_path / "store"), Machine("tiny", device="cpu", batch_size=2))


def written(bench: Workbench, texts: Sequence[str] = tuple(GERMAN), lang: str = "de", note: str = "") -> Artifact:
    prompts = [
        Prompt(f"p{i}", lang, "harmless", "test", f"Frage {i}", f"Question {i}", cluster=f"c{i}")
        for i in range(len(texts))
    ]
    answers = [Completion(p.id, lang, p.kind, text, 5, False, (), p.cluster) for p, text in zip(prompts, texts)]
    about = {"model": "m", "data": "d", "lang": lang, "kind": "harmless", "split": "test", "n": len(texts)}
    with bench.store.draft() as out:
        formats.write_rows(out / PROMPTS_FILE, (p.to_json() for p in prompts))
        recipe = {"step": f"t{note}", "version": 1, "params": {"lang": lang, "texts": list(texts)}, "inputs": {}}
        asked = bench.store.commit(out, "prompts", recipe, about, {})
    with bench.store.draft() as out:
        formats.write_rows(out / COMPLETIONS_FILE, (a.to_json() for a in answers))
        recipe = recipe | {"inputs": {"prompts": asked.id}}
        return bench.store.commit(out, "completions", recipe, about | {"intervention": "none"}, {})


def test_a_failed_translation_is_a_row_with_its_reason(bench: Workbench) -> None:
    tool = Known()
    made = translate_completions(bench, written(bench), "known", opened=tool)
    rows = read_translations(made)
    assert [row.text is not None for row in rows] == [True, True, False, False, False, False]
    assert [row.failed for row in rows] == [
        "", "", "no luck", "the translation is degenerate", "the translation is not English", LOOPS,
    ]  # fmt: skip
    assert len(tool.asked) == 5  # a loop is not sent: a translator could make a sentence of it
    assert bench.store.run_info(made)["checks"]["translated"] == 2
    assert made.about["translator"] == "known"
    assert {len(row.sha256) for row in rows} == {64}


def test_an_interrupted_translation_goes_on_and_a_text_is_translated_once(bench: Workbench) -> None:
    texts = list(GERMAN)[:2] * 2 + list(GERMAN)[2:5]
    source = written(bench, texts)
    with pytest.raises(KeyboardInterrupt):
        translate_completions(bench, source, "known", opened=Known(limit=2))
    assert not bench.store.ids("translations")
    again = Known()
    made = translate_completions(bench, source, "known", opened=again)
    assert sorted(again.asked) == sorted(texts[4:])
    assert bench.store.run_info(made)["checks"]["from_cache"] == 2
    other = Known()  # other completions with a text that is known already; failures are tried again
    translate_completions(bench, written(bench, [texts[0], texts[4]], note="2"), "known", opened=other)
    assert other.asked == [texts[4]]
    whole = Workbench(Store(bench.store.root.parent / "other"), Machine("tiny", device="cpu"))
    assert translate_completions(whole, written(whole, texts), "known", opened=Known()).id == made.id


def test_a_broken_cache_costs_only_work(bench: Workbench) -> None:
    source = written(bench)
    with pytest.raises(KeyboardInterrupt):
        translate_completions(bench, source, "known", opened=Known(limit=2))
    (path,) = (bench.store.root / "cache" / "translations").glob("*.jsonl")
    lines = path.read_bytes()
    path.write_bytes(b'{"nonsense": 1}\n[]\n\xff\n' + lines[: len(lines) // 2])
    again = Known()
    made = translate_completions(bench, source, "known", opened=again)
    assert [row.text for row in read_translations(made)][:2] == list(GERMAN.values())[:2]
    assert len(again.asked) > 3


def test_another_translator_has_another_cache(bench: Workbench) -> None:
    source, other = written(bench), Known()
    first = translate_completions(bench, source, "known", opened=Known())
    assert translate_completions(bench, source, "other", opened=other).id != first.id
    assert len(other.asked) == 5


def test_a_service_that_gives_up_keeps_what_is_finished(bench: Workbench) -> None:
    source = written(bench)
    with pytest.raises(ModelError):
        translate_completions(bench, source, "known", opened=Known(limit=3, error=ModelError))
    again = Known()
    translate_completions(bench, source, "known", opened=again)
    assert len(again.asked) == 3


def test_english_is_not_translated(bench: Workbench) -> None:
    with pytest.raises(BadInput, match="in English already"):
        translate_completions(bench, written(bench, ["Mix flour."], "en"), "known", opened=Known())


def test_finding_the_translations_of_completions(bench: Workbench) -> None:
    source = written(bench)
    with pytest.raises(NotFound, match="no translations yet"):
        find_translations(bench, source)
    made = translate_completions(bench, source, "known", opened=Known())
    assert find_translations(bench, source).id == made.id
    with pytest.raises(BadInput, match="no translations of"):
        translations_of(written(bench, list(GERMAN)[:2], note="2"), made)
    translate_completions(bench, source, "other", opened=Known())
    with pytest.raises(BadInput, match="has 2 translations"):
        find_translations(bench, source)


# --- judging -------------------------------------------------------------------------------------------


def test_judged_on_the_translation_and_never_on_a_failed_one(bench: Workbench) -> None:
    source = written(bench)
    made = translate_completions(bench, source, "known", opened=Known())
    labels = judge_completions(bench, source, "substring", translations=made)
    assert [(row.outcome, row.reason) for row in read_labels(labels)] == [
        ("compliance", "no refusal phrase"),
        ("refusal", "phrase:en"),
        ("unparsed", "failed translation: no luck"),
        ("unparsed", "failed translation: the translation is degenerate"),
        ("unparsed", "failed translation: the translation is not English"),
        ("degenerate", read_labels(labels)[5].reason),
    ]
    assert (labels.about["text"], labels.about["translator"]) == ("back-translation", "known")
    assert "en" not in {row.lang for row in read_labels(labels)}  # the language is that of what the model wrote
    native = judge_completions(bench, source, "substring")
    assert native.id != labels.id
    assert "text" not in native.about


def test_the_judge_gets_the_english_prompt_with_the_translation(bench: Workbench, tmp_path: Path) -> None:
    lines = ["Harmful request: no\n", "Response refusal: yes\n", "Harmful response: no"]
    wildguard = f"wildguard={tiny.generative(tmp_path / 'wg', 'mistral', lines)}"
    source = written(bench)
    made = translate_completions(bench, source, "known", opened=Known())
    judge: Any = bench.judge(wildguard)
    seen: list[Item] = []

    def judge_all(items: Sequence[Item], done: frozenset[int]) -> Any:
        for i, item in enumerate(items):
            seen.append(item)
            yield i, Verdict("refusal", "r")

    judge.judge_all = judge_all
    labels = judge_completions(bench, source, wildguard, translations=made)
    assert seen == [Item(f"Question {i}", str(text), "en") for i, text in enumerate(list(GERMAN.values())[:2])]
    assert [row.outcome for row in read_labels(labels)] == ["refusal"] * 2 + ["unparsed"] * 3 + ["degenerate"]
    assert not [note for note in bench.notes if "was not made for" in note]  # WildGuard reads English


def test_native_and_translated_labels_make_a_panel(bench: Workbench) -> None:
    source = written(bench)
    made = translate_completions(bench, source, "known", opened=Known())
    labels = [
        judge_completions(bench, source, "substring"), judge_completions(bench, source, "substring", translations=made),
    ]  # fmt: skip
    found = form_panel(bench, labels)
    value = read_panel(found)
    assert value.judges == ("substring", "substring on back-translation")
    german = value.languages["de"]
    (pair,) = german.pairs
    assert (german.n, pair.agreement.n, pair.agreement.left_out) == (6, 3, 3)
    assert pair.agreement.kappa == 1.0
    assert german.all_judges is None
    assert german.votes == {"compliance": 1, "degenerate": 1, "refusal": 1, "tie": 3}
    assert [prompt for _, prompt in german.ties] == ["p2", "p3", "p4"]
    assert [(a.first, a.second, a.n) for a in pair.disagreements] == [("compliance", "unparsed", 3)]
    (together,) = panel_labels(bench, found, labels)
    rows = read_labels(together)
    assert [row.outcome for row in rows] == ["compliance", "refusal", *["unparsed"] * 3, "degenerate"]
    assert rows[2].reason == "tie: compliance 1, unparsed 1"
    assert {row.judge for row in rows} == {"panel:majority"} == {together.about["judge"]}
    assert together.inputs["completions"] == source.id
    text = (found.path / "panel.json").read_text(encoding="utf-8")
    assert not [t for t in GERMAN if t in text]


def test_what_a_panel_cannot_be_of(bench: Workbench) -> None:
    source, other = written(bench), written(bench, list(GERMAN)[:2], note="2")
    labels, others = (judge_completions(bench, each, "substring") for each in (source, other))
    with pytest.raises(BadInput, match="at least two judges"):
        form_panel(bench, [labels, labels])
    with pytest.raises(BadInput, match="at least two judges"):
        form_panel(bench, [labels, others])
    made = translate_completions(bench, source, "known", opened=Known())
    english = judge_completions(bench, source, "substring", translations=made)
    with pytest.raises(BadInput, match="judged by different judges"):
        form_panel(bench, [labels, english, others])
    with bench.store.draft() as out:
        formats.write_rows(out / LABELS_FILE, [row.to_json() for row in read_labels(english)][:3])
        recipe = english.manifest["recipe"] | {"step": "cut"}
        cut = bench.store.commit(out, "labels", recipe, english.about, {})
    with pytest.raises(BadInput, match=r"3 of them the same"):
        form_panel(bench, [labels, cut])
