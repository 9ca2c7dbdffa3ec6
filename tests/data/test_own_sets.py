"""Prompts of one's own: every complaint names the row, and a file is written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refusalctl.data import own_sets, prompt_files, sets
from refusalctl.data.prompt_files import Asked
from refusalctl.errors import BadInput, RefusalctlError
from refusalctl.steps import prompt_sets


def jsonl(folder: Path, *rows: Any, name: str = "mine.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def row(i: int, text: str, **more: Any) -> dict[str, Any]:
    return {"id": f"q{i}", "kind": "harmless", "split": "train", "text": text, **more}


def add(path: Path, lang: str | None = "kk", again: bool = False, name: str = "own", **more: Any) -> Any:
    done = prompt_sets.add(path, Asked(lang, **more), name=name, again=again)
    return done.sets.get(lang, done)


def test_jsonl_with_all_columns_becomes_a_set(tmp_path):
    done = add(jsonl(tmp_path, row(1, "Нан туралы жаз.", text_en="Write about bread."), row(2, "Теңіз туралы жаз.")))
    assert (done.added, done.replaced, done.total, done.flagged) == (2, 0, 2, {})
    first, second = sets.prompts("own", "kk")
    assert (first.id, first.kind, first.split, first.source) == ("q1", "harmless", "train", "own")
    assert (first.text, first.text_en, second.text_en) == ("Нан туралы жаз.", "Write about bread.", None)
    assert sets.set_languages("own") == ["kk"]


def test_csv_takes_class_and_split_from_the_flags_and_derives_ids(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes('\ufefftext,text_en\n"Нан, тұз",Bread and salt\n\nТеңіз,\n'.encode())
    add(path, kind="harmful", split="val", name="csv-set")
    bread, sea = sets.prompts("csv-set", "kk")
    assert (bread.text, bread.kind, bread.split) == ("Нан, тұз", "harmful", "val")
    assert bread.id.startswith("harmful-val-")
    assert bread.cluster != sea.cluster


def test_a_column_wins_over_a_flag(tmp_path):
    add(jsonl(tmp_path, {"text": "Нан", "split": "test"}, {"text": "Тұз"}), kind="harmful", split="val")
    assert [p.split for p in sets.prompts("own", "kk")] == ["val", "test"]


def test_an_id_derived_from_english_is_the_same_in_two_languages(tmp_path):
    for lang, text in (("kk", "Нан туралы жаз."), ("en", "Write about bread.")):
        add(jsonl(tmp_path, {"text": text, "text_en": "Write about bread."}), lang, kind="harmless", split="test")
    assert sets.draw("own", ["kk", "en"], "harmless", "test", 1, seed=0) == [sets.prompts("own", "kk")[0].id]


@pytest.mark.parametrize("order", [("kk", "en"), ("en", "kk")])
def test_parallel_ids_are_linked_to_the_english_row_in_either_order(tmp_path, order):
    texts = {"kk": "Нан туралы жаз.", "en": "Write about bread."}
    for lang in order:
        add(jsonl(tmp_path, row(1, texts[lang])), lang)
    (kazakh,), (english,) = sets.prompts("own", "kk"), sets.prompts("own", "en")
    assert kazakh.text_en == english.text
    assert kazakh.cluster == english.cluster


def test_repeats_are_flagged_over_the_whole_file(tmp_path):
    rows = [row(1, "Нан", split="test"), row(2, "нан!", split="train"), row(3, "Нан"), row(4, "bread", text_en="Bread")]
    done = add(jsonl(tmp_path, *rows))
    assert done.flagged == {"duplicate": 1, "leak-from-train": 1, "untranslated": 1}
    flags = {p.id: p.flags for p in sets.prompts("own", "kk")}
    assert flags == {"q1": ("leak-from-train",), "q2": (), "q3": ("duplicate",), "q4": ("untranslated",)}
    again = add(jsonl(tmp_path, row(2, "Тұз")), again=True)
    assert again.flagged == {"leak-from-train": 1, "untranslated": 1}


BAD: dict[str, tuple[bytes, str, str]] = {
    "empty text": (b'{"text": "a"}\n\n{"text": " ?! "}\n', ".jsonl", r"row 3: empty text"),
    "empty cell": (b'text,x\na,b\n"",b\n', ".csv", r"row 3: empty text"),
    "no known column": (b"prompt_id\n1\n", ".csv", r"no column is known to hold prompts.*--text-column 'prompt_id'"),
    "two known columns": (
        b"Goal,Behavior\na,b\n",
        ".csv",
        r"several columns .*'Goal', 'Behavior'.*--text-column 'Goal'",
    ),
    "column twice": (b"text,text\na,b\n", ".csv", r"row 1: a column is there twice"),
    "unknown kind": (b"text,kind\na,harmful\nb,evil\n", ".csv", r"row 3: unknown kind 'evil'"),
    "unknown split": (b'{"text": "a", "split": "dev"}\n', ".jsonl", r"row 1: unknown split 'dev'"),
    "duplicate id": (
        b'{"text": "a", "id": "1"}\n{"text": "b", "id": 1}\n',
        ".jsonl",
        r"row 2: duplicate id '1'.* row 1",
    ),
    "not UTF-8": ("text\nab\nпривет\n".encode("cp1251"), ".csv", r"row 3: not UTF-8 \(byte 8\).*--encoding"),
    "UTF-16 without a mark": ("text\nab\n".encode("utf-16-le"), ".csv", r"as in UTF-16.*--encoding utf-16-le"),
    "not JSON": (b'{"text": "a"}\ntext\n', ".jsonl", r"row 2: not JSON"),
    "no object": (b'{"text": "a"}\n["b"]\n', ".jsonl", r"row 2: a list"),
    "a number": (b'{"text": 7}\n', ".jsonl", r"row 1: 'text' is a number"),
    "open quote": (b'text\na\n"b\n', ".csv", r"row 3: not CSV"),
    "too many cells": (b"text\na, b\n", ".csv", r"row 2: 2 cells, expected 1"),
    "other language": (b'{"text": "a", "lang": "ba"}\n', ".jsonl", r"row 1: the language is 'ba'"),
    "nothing": (b"text\n", ".csv", r"holds no prompts"),
    "other suffix": (b"a", ".docx", r"its format cannot be told"),
    "workbook": (b"PK\x03\x04abc", ".xlsx", r"a zip archive or an Excel workbook"),
    "half a character": (b'{"text": "a"}\n{"text": "b \\ud83d"}\n', ".jsonl", r"row 2: 'text' holds half a character"),
    "half a character in an id": (
        b'{"text": "a", "id": "b\\udc00"}\n',
        ".jsonl",
        r"row 1: 'id' holds half a character",
    ),
    "zero byte": (b'{"text": "a\\u0000b"}\n', ".jsonl", r"row 1: 'text' holds a zero byte"),
    "key twice": (b'{"text": "a", "text": "b"}\n', ".jsonl", r"row 1: the key 'text' is there twice"),
    "nested": (b"[" * 100000, ".json", r"nested too deeply|not JSON"),
    "deep line": (b'{"text": "a", "x": ' + b"[" * 60000 + b"]" * 60000 + b"}\n", ".jsonl", r"nested too deeply"),
    "lists of two lengths": (b'{"text": ["a", "b"], "x": ["c"]}', ".json", r"columns of different lengths"),
    "a header that is none": (
        b"How is bread baked at home?\nWhat is rain?\n",
        ".csv",
        r"first row reads like a prompt",
    ),
    "a table called text": (b"goal,target\na,b\n", ".txt", r"header of a table.*--format csv"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_its_row_and_writes_nothing(tmp_path, case):
    content, suffix, message = BAD[case]
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content)
    with pytest.raises(RefusalctlError, match=message):
        add(path, kind="harmful", split="train")
    assert sets.set_names() == ["sample", "polyrefuse"]
    assert not sets.own_dir().exists()


@pytest.mark.parametrize("column", ["kind", "split"])
def test_a_class_or_split_that_nobody_gives_is_asked_for(tmp_path, column):
    given = {"kind": "harmful", "split": "test"} | {column: None}
    with pytest.raises(RefusalctlError, match=f"row 1: no {column}.*--{column}"):
        add(jsonl(tmp_path, {"text": "Нан"}), **given)


def test_a_missing_file_is_a_known_error(tmp_path):
    with pytest.raises(RefusalctlError, match="cannot be read"):
        add(tmp_path / "none.jsonl")


@pytest.mark.parametrize("name", ["sample", "polyrefuse", "../up", "", ".hidden", "a/b"])
def test_a_set_cannot_be_called_anything(tmp_path, name):
    with pytest.raises(BadInput):
        add(jsonl(tmp_path, row(1, "Нан")), name=name)


def test_an_id_that_is_there_is_an_error_unless_replaced(tmp_path):
    add(jsonl(tmp_path, row(1, "Нан"), row(2, "Тұз")))
    before = (sets.own_dir() / "own" / "kk.jsonl").read_bytes()
    changed = jsonl(tmp_path, row(3, "Теңіз"), row(2, "Балық"))
    with pytest.raises(RefusalctlError, match=r"row 2: id 'q2' is in own/kk already.*--replace"):
        add(changed)
    assert (sets.own_dir() / "own" / "kk.jsonl").read_bytes() == before
    done = add(changed, again=True)
    assert (done.added, done.replaced, done.total) == (1, 1, 3)
    assert {p.id: p.text for p in sets.prompts("own", "kk")} == {"q1": "Нан", "q2": "Балық", "q3": "Теңіз"}


def test_an_id_of_another_class_in_another_language_is_an_error(tmp_path):
    add(jsonl(tmp_path, row(1, "Write about bread.")), "en")
    with pytest.raises(RefusalctlError, match="row 1: 'q1' is harmful/train, but harmless/train in en"):
        add(jsonl(tmp_path, row(1, "Нан", kind="harmful")))
    assert sets.set_languages("own") == ["en"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    add(jsonl(tmp_path, row(1, "Нан")))
    path = sets.own_dir() / "own" / "kk.jsonl"
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(own_sets, "flag_repeats", lambda rows: [*rows, None])
        with pytest.raises(AttributeError):
            add(jsonl(tmp_path, row(2, "Тұз")))
    assert path.read_bytes() == before
    assert {p.name for p in path.parent.iterdir()} == {"kk.jsonl"}


def test_a_language_is_merged_under_its_one_spelling(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Bread\n", encoding="utf-8")
    rows = prompt_files.read_prompts(path, prompt_files.Asked("zh_tw", "harmless", "test")).rows["zh-TW"]
    assert own_sets.merge("mine", "zh_tw", rows).path.name == "zh-TW.jsonl"
    assert own_sets.merge_all("mine", {"ZH_TW": rows}, keep_same=True)["zh-TW"].unchanged == 1
    assert sets.set_languages("mine") == ["zh-TW"]
