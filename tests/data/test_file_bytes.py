"""Bytes of a user's file: what is no file of prompts is named as what it is, and no encoding is guessed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from refusalctl.cli.app import app
from refusalctl.data import file_bytes
from refusalctl.data.file_bytes import decode, read_bytes
from refusalctl.errors import BadInput, DataError, RefusalctlError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"


def database(path: Path) -> bytes:
    with sqlite3.connect(path) as made:
        made.execute("create table prompts (text)")
    made.close()
    return path.read_bytes()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "pointer.csv": (POINTER, "a pointer of Git LFS, not the file itself; run `git lfs pull`"),
    "page.jsonl": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page, not the data; download the raw"),
    "page.csv": (b"\xef\xbb\xbf\n  <html lang='en'>", "a web page, not the data"),
    "page.txt": (b"<?xml version='1.0'?>\n<!DOCTYPE html>", "a web page or other XML, not the data"),
    "packed.csv": (bz2.compress(b"text\nBread\n"), "packed with bzip2; unpack it first"),
    "packed.jsonl": (lzma.compress(b'{"text": "Bread"}'), "packed with xz; unpack it first"),
    "packed.json": (b"\x28\xb5\x2f\xfdabc", "packed with zstd; unpack it first"),
    "pointer.csv.gz": (gzip.compress(POINTER), "a pointer of Git LFS"),
    "book.csv": (b"PK\x03\x04abc", "a zip archive or an Excel workbook; save it as CSV"),
}


@pytest.mark.parametrize("name", [*FOREIGN, "base.csv"])
def test_what_is_no_file_of_prompts_is_named_by_data_add(tmp_path: Path, name: str) -> None:
    content, words = FOREIGN.get(name) or (database(tmp_path / "made.db"), "an SQLite database; save it as CSV UTF-8")
    (tmp_path / name).write_bytes(content)
    done = CliRunner().invoke(
        app, ["data", "add", str(tmp_path / name), "--lang", "en", "--kind", "harmless", "--split", "test"]
    )
    assert isinstance(done.exception, BadInput), done.output
    assert words in str(done.exception)
    assert not (tmp_path / "own").exists()


def test_folders_missing_files_and_damaged_gzip(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder; name one file in it"):
        read_bytes(tmp_path)
    with pytest.raises(RefusalctlError, match="No such file"):
        read_bytes(tmp_path / "none.csv")
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text\nBread\n" * 50)[:-6])
    with pytest.raises(DataError, match="the gzip data are damaged or cut"):
        read_bytes(path)


def test_a_small_file_that_unpacks_to_any_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_bytes, "MOST_BYTES", 1000)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text\n" + b"a" * 5000))
    with pytest.raises(DataError, match="unpacks to more than"):
        read_bytes(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Grüße, 你好".encode(encoding))
    assert decode(read_bytes(path)) == "Grüße, 你好"
    assert read_bytes(path).suffix == ".txt"
