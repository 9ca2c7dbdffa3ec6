"""Files from outside: only ordinary ones, bounded, and JSON that every later step can bear."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalctl.untrusted import DEEPEST, Refused, bounded, ordinary, own_folder, parse_json, read_bytes, read_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(VALUES)
def test_what_json_writes_is_read_as_it_was(value: object) -> None:
    try:
        text = json.dumps(value)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, UnicodeEncodeError):  # infinity, half a character
        return
    if "Infinity" not in text:
        assert parse_json(text) == value
        assert parse_json(text.encode()) == value


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\u0d8Ee+-19NaIty ', max_size=60).map(str.encode))
def test_bytes_are_a_value_that_can_be_written_again_or_refused(content: bytes) -> None:
    try:
        value = parse_json(content)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * (DEEPEST + 2) + "]" * (DEEPEST + 2),
        '{"a":' * 900 + "1" + "}" * 900,
        "NaN",
        "[-Infinity]",
        "1e999",
        str(2**63),
        "9" * 5000,
        '"\\ud800"',
        '{"\\udfff": 1}',
        b'"\xed\xa0\x80"',
        b"\xff\xfe\x00",
    ],
)
def test_what_would_break_a_later_step_is_refused(text: str | bytes) -> None:
    with pytest.raises((Refused, UnicodeDecodeError)):
        parse_json(text)


def test_what_honest_files_hold_is_read() -> None:
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert json.dumps(parse_json(deep)) == deep
    assert parse_json('["\\ud83d\\ude00", 0.1234567890123456789]') == ["😀", 0.12345678901234568]
    assert parse_json(str(-(2**63))) == -(2**63)
    assert parse_json(f"[NaN, {10**30}]", nan=True)[1] == 10**30  # type: ignore[index]
    assert parse_json('"\\ud800"', halves=True) == "\ud800"
    with pytest.raises(Refused, match="300 digits"):
        parse_json("9" * 400, nan=True)


def test_only_an_ordinary_file_that_is_not_too_long_is_opened(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    assert read_bytes(good, 5) == b"12345"
    assert ordinary(good) == 5
    with pytest.raises(Refused, match="longer than 4 bytes"):
        read_bytes(good, 4)
    for name in ("link", "device", "circle", "pipe"):
        with pytest.raises(Refused, match=r"symbolic link|no ordinary file"):
            read_bytes(tmp_path / name)
    for name in ("folder", "nothing"):
        with pytest.raises((IsADirectoryError, FileNotFoundError)):
            read_bytes(tmp_path / name)
    assert own_folder(tmp_path / "folder")
    assert not own_folder(tmp_path / "link")


def test_a_hole_of_a_terabyte_and_an_endless_device_take_no_memory(tmp_path: Path) -> None:
    hole = tmp_path / "hole"
    hole.touch()
    os.truncate(hole, 1 << 40)
    with pytest.raises(Refused, match="longer than"):
        read_bytes(hole)
    with pytest.raises(Refused, match="line 1 is longer than 1,000 bytes"):
        list(read_lines(hole, 1000))
    with pytest.raises(Refused, match="longer than 1,000 bytes"):
        bounded(Path("/dev/zero"), 1000)
