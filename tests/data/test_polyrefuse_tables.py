"""Cleaning, alignment and flags of the published prompts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusalctl.data import polyrefuse_tables, prompt_texts, sets
from refusalctl.records.rows import Prompt


def by_set(lang: str, kind: str, split: str) -> list[Prompt]:
    return [p for p in sets.prompts("polyrefuse", lang) if (p.kind, p.split) == (kind, split)]


def ids(lang: str, kind: str, split: str) -> list[str]:
    return [p.id for p in by_set(lang, kind, split)]


def test_rows_aligned_by_position_share_ids_and_say_so(tree, fetched):
    fetched(tree)
    assert ids("de", "harmful", "train") == ids("en", "harmful", "train")
    assert all("aligned-by-position" in p.flags for p in by_set("de", "harmful", "train"))
    assert all(p.flags == () for p in by_set("en", "harmful", "train"))


def test_rows_in_another_order_do_not_share_ids(tree, fetched):
    rows = tree.files[tree.path("de", "harmless", "train")]
    rows.sort(key=lambda row: row["instruction"].partition("über")[2])
    fetched(tree)
    assert set(ids("de", "harmless", "train")).isdisjoint(ids("en", "harmless", "train"))
    assert all(p.flags == ("not-aligned",) and p.text_en is None for p in by_set("de", "harmless", "train"))


def test_a_shorter_set_is_not_aligned(tree, fetched):
    tree.files[tree.path("de", "harmful", "val")].pop()
    fetched(tree)
    assert set(ids("de", "harmful", "val")).isdisjoint(ids("en", "harmful", "val"))


def test_test_rows_are_paired_by_their_source_whatever_the_order(tree, fetched):
    tree.files[tree.path("de", "harmful", "test")].reverse()
    fetched(tree)
    assert ids("de", "harmful", "test") == ids("en", "harmful", "test")[::-1]
    assert all(p.text_en == sets.pick("polyrefuse", "en", [p.id])[0].text for p in by_set("de", "harmful", "test"))


def test_the_second_english_sample_joins_the_first_without_duplicates(tree, fetched):
    first = tree.files[tree.path("en", "harmless", "test")]
    tree.files[polyrefuse_tables.SECOND_HARMLESS_TEST] = [
        *first[-2:],
        {"instruction": "Name a tree that grows in the north."},
    ]
    fetched(tree)
    assert len(ids("en", "harmless", "test")) == 13
    assert all(p.flags == () for p in by_set("en", "harmless", "test"))


def test_duplicates_and_leaks_are_flagged_and_unusable(tree, fetched):
    for lang in ("en", "de"):
        test, train = (tree.files[tree.path(lang, "harmful", s)] for s in ("test", "train"))
        test.append(test[0])
        leak = {"instruction": tree.files[tree.path("en", "harmful", "train")][3]["instruction"].upper()}
        test.append(leak | ({"instruction_translated": train[3]["instruction"]} if lang == "de" else {}))
    fetched(tree)
    for lang in ("en", "de"):
        found = by_set(lang, "harmful", "test")
        assert [p.flags for p in found[-2:]] == [("duplicate",), ("leak-from-train",)]
        assert found[-2].id == f"{found[0].id}-2"
        assert len({p.id for p in found}) == 14
        assert len(sets.usable("polyrefuse", lang, "harmful", "test")) == 12


def test_html_entities_are_undone_and_flagged(tree, fetched):
    row = tree.files[tree.path("de", "harmful", "test")][0]
    row["instruction_translated"] += " &amp;quot;M&uuml;hle&amp;quot; &#39;"
    fetched(tree)
    prompt = by_set("de", "harmful", "test")[0]
    assert prompt.text.endswith('"Mühle" \'')
    assert prompt.flags == ("html-unescaped",)


@pytest.mark.parametrize(("text", "flag"), [("  \n ", "empty"), (None, "untranslated")])
def test_blank_and_untranslated_rows_are_unusable(tree, fetched, text, flag):
    row = tree.files[tree.path("de", "harmless", "test")][5]
    row["instruction_translated"] = row["instruction"].upper() if text is None else text
    fetched(tree)
    assert flag in by_set("de", "harmless", "test")[5].flags
    assert len(sets.usable("polyrefuse", "de", "harmless", "test")) == 11


@given(st.text())
def test_unescape_is_idempotent_and_leaves_plain_text(text):
    once = prompt_texts.unescape(text)
    assert prompt_texts.unescape(once) == once
    if "&" not in text:
        assert once == text


def test_clusters_ignore_case_spaces_and_marks_but_not_words():
    assert prompt_texts.cluster_of("Write a  LETTER!") == prompt_texts.cluster_of("write a letter")
    assert prompt_texts.cluster_of("write a letter") != prompt_texts.cluster_of("write two letters")


def test_lengths_that_cannot_be_ranked_have_no_rho():
    assert polyrefuse_tables.length_rho(["a"] * 9, ["b"] * 9) is None
    assert not polyrefuse_tables.aligned(["a"] * 9, ["b"] * 9)
