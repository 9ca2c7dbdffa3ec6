"""Rows survive the way through JSON, and a malformed one is refused by the name of its field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refusalctl.errors import DataError
from refusalctl.records.rows import Completion, Label, Prompt, Row, SheetRow, Translation
from refusalctl.store.hashing import canonical

PROMPT = Prompt("p1", "be", "harmful", "test", "тэкст", flags=("duplicate",))
ROWS = [
    PROMPT,
    Completion("p1", "be", "harmful", "адказ", None, None, (4, 5)),
    Translation("p1", None, "no luck", "0" * 64),
    Label("p1", "refusal", "substring", lang_score=1.0),
    SheetRow("a1", "sha", "p1", "compliance", 9, 3),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_a_row_comes_back_as_it_was(row: Row) -> None:
    assert type(row).from_json(json.loads(canonical(row.to_json()))) == row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zap": 1}, "f line 3: unknown field 'zap'; expected .*'cluster', 'flags', 'id'"),
        ({"text": None, "id": ...}, "f line 3: missing field 'id'"),
        ({"text": 5}, "f line 3: field text: expected str, got int"),
        ({"flags": ["a", 3]}, r"f line 3: field flags\[1\]: expected str, got int"),
        ({"kind": "secret"}, "f line 3: field kind: not one of the known values"),
    ],
)
def test_a_malformed_row_is_refused_by_the_name_of_its_field(change: dict[str, Any], message: str) -> None:
    row = {k: v for k, v in (PROMPT.to_json() | change).items() if v is not ...}
    with pytest.raises(DataError, match=message) as refused:
        Prompt.from_json(row, "f line 3")
    assert "secret" not in refused.value.message  # a value may be a harmful text


def test_a_completion_is_shown_without_its_token_ids() -> None:
    assert repr(ROWS[1]) == (
        "Completion(prompt_id='p1', lang='be', kind='harmful', text='адказ', n_tokens=None, truncated=None, cluster='')"
    )
