"""CSV: delimiters are found by the header, cells have any length, and the library's limit is left as it was."""

from __future__ import annotations

import csv

import pytest

from refusalctl.data.csv_text import declared_delimiter, delimiter_of, records
from refusalctl.data.prompt_columns import is_known
from refusalctl.errors import DataError


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("text,n\na,1\n", ","), ("text;n\na, b;1\n", ";"), ("text\tn\n", "\t"), ("n|text\n", "|"),
        ("text\nfirst, second; third\n", ","), ("a;b;c,text\n", ","), ("\n\ngoal;x\n", ";"),
        ('"a;b",text\n', ","),
    ],
)  # fmt: skip
def test_the_delimiter_is_the_one_whose_header_has_a_known_column(text: str, delimiter: str) -> None:
    assert delimiter_of(text, is_known) == delimiter


def test_excels_own_line() -> None:
    assert declared_delimiter("sep=;\r\ntext;n\r\n") == ";"
    assert declared_delimiter("sep;text\n") is None


def test_records_are_numbered_and_the_limit_of_the_process_stays() -> None:
    before = csv.field_size_limit()
    long = "a" * (before + 1)
    rows = records("x.csv", f'text\n"{long}"\n"two\nlines"\n', ",")
    assert next(rows) == (1, ["text"])
    assert csv.field_size_limit() == before  # also while the rest is not read yet
    assert [(n, len(cells[0])) for n, cells in rows] == [(2, before + 1), (3, 9)]
    with pytest.raises(DataError, match=r"x\.csv row 2: not CSV .*double quotes"):
        list(records("x.csv", 'text\n"a" b\n', ","))
