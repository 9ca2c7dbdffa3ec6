"""The sample set that ships with the tool, and the draw of ids from it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalctl.data import language_identification, prompt_texts, sample, sets
from refusalctl.data.languages import SAMPLE
from refusalctl.errors import BadInput
from refusalctl.records.rows import KINDS, SPLITS


def test_six_languages_hold_the_same_ids_in_the_same_order():
    assert sample.languages() == list(SAMPLE)
    orders = {tuple((p.id, p.kind, p.split) for p in sample.prompts(lang)) for lang in SAMPLE}
    assert len(orders) == 1


@pytest.mark.parametrize("lang", SAMPLE)
def test_every_language_is_large_enough_unique_and_clean(lang):
    prompts = sample.prompts(lang)
    counts = Counter((p.kind, p.split) for p in prompts)
    least = {"train": 48, "val": 16, "test": 48}
    assert all(counts[kind, split] >= least[split] for kind in KINDS for split in SPLITS)
    assert len({prompt_texts.normal(p.text) for p in prompts}) == len(prompts)
    assert len({p.id for p in prompts}) == len(prompts)
    assert all(p.lang == lang and p.text == p.text.strip() and prompt_texts.unescape(p.text) == p.text for p in prompts)
    assert lang == "en" or not any(prompt_texts.normal(p.text) == prompt_texts.normal(p.text_en or "") for p in prompts)


@pytest.mark.parametrize("lang", SAMPLE)
def test_most_texts_are_identified_as_their_language(lang):
    share = language_identification.identify(sample.prompts(lang)).share
    assert share is not None
    assert share > {"en": 0.98, "de": 0.98, "ru": 0.98}.get(lang, 0.8)


def test_a_draw_is_the_same_whichever_languages_ask():
    both = sets.draw("sample", ["en", "ba"], "harmful", "test", 20, seed=3)
    assert both == sets.draw("sample", ["tg"], "harmful", "test", 20, seed=3)
    assert [p.id for p in sets.pick("sample", "ba", both)] == both
    assert both != sets.draw("sample", ["tg"], "harmful", "test", 20, seed=4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 48), st.integers(0, 48), st.integers(0, 9))
def test_a_smaller_draw_begins_a_larger_one(n, m, seed):
    draws = [sets.draw("sample", ["en"], "harmless", "test", k, seed) for k in sorted((n, m))]
    assert draws[0] == draws[1][: len(draws[0])]
    assert len(set(draws[1])) == max(n, m)


def test_a_draw_leaves_out_ids_that_one_language_lacks(tree, fetched):
    tree.files[tree.path("de", "harmful", "test")].pop(0)
    fetched(tree)
    lacking = {p.id for p in sets.prompts("polyrefuse", "en")} - {p.id for p in sets.prompts("polyrefuse", "de")}
    drawn = sets.draw("polyrefuse", ["en", "de"], "harmful", "test", None, seed=0)
    assert len(drawn) == 11
    assert lacking.isdisjoint(drawn)


def test_too_large_a_draw_says_how_many_there_are():
    with pytest.raises(BadInput, match=r"999 harmful test .* 48 are shared"):
        sets.draw("sample", ["en", "de"], "harmful", "test", 999, seed=0)


@pytest.mark.parametrize("call", [lambda: sets.prompts("sample", "fr"), lambda: sets.prompts("nowhere", "en"),
                                  lambda: sets.prompts("sample", "English")])  # fmt: skip
def test_unknown_sets_and_languages_are_refused(call):
    with pytest.raises(BadInput):
        call()
