"""Sheets: every text comes back as it was, whatever a spreadsheet would make of it, written whole or not at all."""

from __future__ import annotations

import csv
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusalctl.data import sheets
from refusalctl.errors import BadInput, DataError

FORMULAS = ("=1+1", "+49 30", "-1", "@name", "\tx", "\rx", "\nx", "＝1", "＋1", "－1", "＠x")


@given(
    st.one_of(
        st.text(),
        st.sampled_from(["=", "'", "''", "'=", "+", "@", *FORMULAS]).flatmap(lambda s: st.text().map(s.__add__)),
    )
)
def test_a_cell_gives_its_text_back(text: str) -> None:
    assert sheets.plain(sheets.neutral(text)) == text


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_is_a_formula(text: str) -> None:
    assert sheets.neutral(text) == f"'{text}"
    assert sheets.neutral("Bread = water + flour") == "Bread = water + flour"


def sheet(path: Path, *labels: str) -> Path:
    rows = [{"id": f"k{i}", "prompt": "=a", "response": "'b", "label": label} for i, label in enumerate(labels)]
    sheets.write(path, rows)
    return path


@pytest.mark.parametrize("name", ["s.csv", "s.jsonl"])
def test_labels_come_back_in_any_case_and_empty_ones_are_told(tmp_path: Path, name: str) -> None:
    found = sheets.read(sheet(tmp_path / name, " Refusal", "unsure", ""), ["k0", "k1", "k2"])
    assert found == sheets.Sheet({"k0": "refusal", "k1": "unsure"}, ("k2",))
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadInput, match="is there already"):
        sheet(tmp_path / name, "refusal")


def test_a_sheet_saved_by_a_spreadsheet_of_another_country_is_read(tmp_path: Path) -> None:
    path = sheet(tmp_path / "s.csv", "refusal", "compliance")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    with path.open("w", encoding="utf-16", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    assert sheets.read(path, ["k0", "k1"]).labels == {"k0": "refusal", "k1": "compliance"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("k1", "k0"), "row 3: id 'k0' is there twice"),
        (("k1", "1.2E+05"), "row 3: id .*was not drawn.*a spreadsheet took it for a number"),
        (("compliance", "maybe"), "row 3: label 'maybe' is not one of"),
        (("id", "key"), "no column 'id'"),
    ],
)
def test_a_sheet_that_is_not_the_samples_is_told_by_row(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    path = sheet(tmp_path / "s.csv", "refusal", "compliance")
    path.write_text(path.read_text(encoding="utf-8").replace(f'"{change[0]}"', f'"{change[1]}"'), encoding="utf-8")
    with pytest.raises(DataError, match=words):
        sheets.read(path, ["k0", "k1"])


ROW = {"id": "a1", "prompt": "How do I bake bread?", "response": "Mix flour and water.", "label": "", "comment": ""}


@pytest.mark.parametrize("name", ["sheet.csv", "sheet.jsonl"])
def test_a_sheet_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / name
    sheets.write(path, [ROW])
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()

    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        sheets.write(path, [{**ROW, "label": "refusal"}], replace=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
