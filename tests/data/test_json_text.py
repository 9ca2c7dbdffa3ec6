"""JSON: any of its shapes gives rows with the numbers that a reader counts; nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refusalctl.data import json_text
from refusalctl.data.prompt_columns import is_known
from refusalctl.errors import DataError


def rows(value: Any) -> list[tuple[int, dict[str, Any]]]:
    return json_text.document("x.json", json.dumps(value), is_known)[0]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (["a", {"goal": "b"}], [(1, {"text": "a"}), (2, {"goal": "b"})]),
        ({"goal": ["a", "b"]}, [(1, {"goal": "a"}), (2, {"goal": "b"})]),
        ({"goal": {"5": "a", "7": "b"}}, [(1, {"goal": "a"}), (2, {"goal": "b"})]),
        ({"k": {"goal": "a"}}, [(1, {"id": "k", "goal": "a"})]),
        ({"goal": "a", "n": 1}, [(1, {"goal": "a", "n": 1})]),
        ({"meta": {}, "data": {"rows": ["a"]}}, [(1, {"text": "a"})]),
        ({"rows": [{"row_idx": 0, "row": {"goal": "a"}}]}, [(1, {"goal": "a"})]),
    ],
)
def test_shapes(value: Any, found: list[tuple[int, dict[str, Any]]]) -> None:
    assert rows(value) == found


def test_the_path_that_was_followed_is_told() -> None:
    assert json_text.document("x.json", '{"data": {"rows": ["a"]}}', is_known)[1] == "data.rows"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (7, "holds a number; expected a list"),
        ([None], "row 1: null, expected a text or an object"),
        ({"a": 1}, "no list of prompts, but an object with 'a'"),
        ({"goal": ["a"], "x": ["b", "c"]}, "columns of different lengths"),
        ({"a": ["x"], "b": ["y"], "n": 1}, "no list of prompts"),  # which of the lists?
    ],
)
def test_what_is_in_doubt_is_not_chosen(value: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        rows(value)


def test_lines_are_numbered_as_an_editor_does_and_a_key_said_twice_is_refused() -> None:
    assert list(json_text.lines("x", '"a"\n\n{"goal": "b"}\n')) == [(1, {"text": "a"}), (3, {"goal": "b"})]
    with pytest.raises(DataError, match="x row 2: the key 'goal' is there twice"):
        list(json_text.lines("x", '"a"\n{"goal": "b", "goal": "c"}\n'))
