"""Fetching: every byte is checked before it is kept, and nothing is left half done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from refusalctl.data import polyrefuse, polyrefuse_tables, sets
from refusalctl.errors import DataError
from refusalctl.progress import Silent
from refusalctl.steps import prompt_sets

ONE = "splits/harmful_val.json"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dataset"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def files_below(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_fetch_from_folder_keeps_every_file_and_builds_tables(tree, publish):
    folder = publish(tree)
    done = prompt_sets.fetch(folder, Silent())
    assert files_below(polyrefuse.published_dir()) == set(tree.files)
    assert done.files == len(tree.files)
    assert done.rows == {"de": 72, "en": 72}
    assert polyrefuse.is_fetched()
    assert sets.set_languages("polyrefuse") == ["de", "en"]


def test_the_dataset_folder_itself_will_do(tree, publish):
    assert prompt_sets.fetch(publish(tree) / "dataset", Silent()).files == len(tree.files)


def test_second_fetch_copies_and_rebuilds_nothing(tree, publish, monkeypatch):
    folder = publish(tree)
    assert prompt_sets.fetch(folder, Silent()).new == len(tree.files)
    monkeypatch.setattr(polyrefuse_tables, "table", lambda _lang: pytest.fail("a table was built again"))
    for source in (folder, None):
        done = prompt_sets.fetch(source, Silent())
        assert (done.files, done.new, done.rows) == (len(tree.files), 0, {"de": 72, "en": 72})


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_a_folder_is_read_also_where_its_files_are_here_already(tree, publish, tmp_path, harm):
    """`--from FOLDER` says of that folder that it is verified."""
    folder = publish(tree)
    prompt_sets.fetch(folder, Silent())
    path = folder / "dataset" / ONE
    path.unlink() if harm == "missing" else path.write_bytes(b"[]")
    with pytest.raises(DataError, match="not there" if harm == "missing" else "SHA-256"):
        prompt_sets.fetch(folder, Silent())
    with pytest.raises(DataError, match="--from takes the folder"):
        prompt_sets.fetch(tmp_path / "another", Silent())


def test_a_damaged_table_is_built_again(tree, publish):
    folder = publish(tree)
    prompt_sets.fetch(folder, Silent())
    table = polyrefuse.tables_dir() / "de.jsonl"
    whole = table.read_bytes()
    table.write_bytes(whole[:100])
    prompt_sets.fetch(folder, Silent())
    assert table.read_bytes() == whole


def test_a_damaged_published_file_is_fetched_again(tree, publish):
    folder = publish(tree)
    prompt_sets.fetch(folder, Silent())
    kept = polyrefuse.published_dir() / ONE
    kept.write_bytes(b"[]")
    with pytest.raises(DataError, match="SHA-256"):
        polyrefuse.read_published(ONE)
    prompt_sets.fetch(folder, Silent())
    assert polyrefuse.read_published(ONE)


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_a_changed_or_missing_source_file_writes_nothing(tree, publish, harm):
    folder = publish(tree)
    path = folder / "dataset" / list(tree.files)[-1]
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"Bitte", b"Bitta", 1))
    with pytest.raises(DataError, match="not there" if harm == "missing" else "SHA-256"):
        prompt_sets.fetch(folder, Silent())
    assert files_below(polyrefuse.published_dir()) == set()
    assert not polyrefuse.is_fetched()


def test_a_failing_table_leaves_no_table(tree, publish, monkeypatch):
    real = polyrefuse_tables.table
    monkeypatch.setattr(polyrefuse_tables, "table", lambda lang: real(lang) if lang == "de" else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prompt_sets.fetch(publish(tree), Silent())
    assert files_below(polyrefuse.tables_dir()) == set()


def test_download(tree, publish, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(tmp_path / "clone") as url:
        publish(tree, url)
        prompt_sets.fetch(None, Silent())
    assert files_below(polyrefuse.published_dir()) == set(tree.files)


def test_a_changed_download_is_refused_and_not_kept(tree, publish, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(tmp_path / "clone") as url:
        folder = publish(tree, url)
        (folder / "dataset" / ONE).write_bytes(b"[]")
        with pytest.raises(DataError, match="does not match"):
            prompt_sets.fetch(None, Silent())
    assert files_below(polyrefuse.published_dir()) <= set(tree.files) - {ONE}
    assert not polyrefuse.is_fetched()


def test_an_unreachable_server_names_the_other_way(tree, publish, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    publish(tree)  # its manifest names a port where nothing listens
    with pytest.raises(DataError, match="--from FOLDER"):
        prompt_sets.fetch(None, Silent())


def test_unfetched_names_the_command():
    with pytest.raises(DataError, match="refusalctl data fetch"):
        sets.set_languages("polyrefuse")


def test_the_pinned_manifest():
    manifest = polyrefuse.manifest()
    assert len(manifest.files) == 148
    assert manifest.commit in manifest.base_url
    assert len(polyrefuse.published_languages()) == 18
