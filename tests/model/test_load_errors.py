"""One net around foreign libraries: one line with its cause; our own bugs keep their traceback."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from transformers.utils import logging

from refusalctl.errors import BadInput, ModelError
from refusalctl.model import loaded_whole
from refusalctl.model.load_errors import loading, quiet


class Foreign(Exception):
    """A library's own error."""


@pytest.mark.parametrize(
    ("thrown", "words"),
    [(Foreign("first\nsecond"), "Foreign: first second"), (KeyError("weight"), "KeyError: 'weight'"),
     (OSError("No file"), "cannot be loaded: No file"), (Foreign(), "Foreign: without a reason")],
)  # fmt: skip
def test_a_foreign_error_is_one_line_with_its_cause(thrown: Exception, words: str) -> None:
    with pytest.raises(ModelError, match=words) as raised, loading("model"):
        raise thrown
    assert raised.value.__cause__ is thrown
    assert "\n" not in raised.value.message


def test_our_own_bug_keeps_its_traceback() -> None:
    with pytest.raises(TypeError), loading("model"):
        loaded_whole._shape(3)  # type: ignore[arg-type]


def test_a_known_error_is_not_wrapped() -> None:
    with pytest.raises(BadInput), loading("model"):
        raise BadInput("known")


def test_the_damaged_file_is_named_instead_of_the_librarys_words(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"tokenizer\.json is damaged"), loading("model", tmp_path):
        raise Foreign("EOF while parsing an object at line 1 column 1")


def test_libraries_are_quiet_and_get_their_settings_back(capsys: pytest.CaptureFixture[str]) -> None:
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_warning()
    logging.enable_progress_bar()
    try:
        with quiet():
            print("words of a model's own code")
            warnings.warn("a library's", FutureWarning, stacklevel=1)
            list(logging.tqdm(range(3)))
            logging.get_logger("transformers.modeling_utils").warning("a report")
        assert capsys.readouterr() == ("", "")
        assert logging.get_verbosity() == logging.WARNING
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(level)
        if not bars:
            logging.disable_progress_bar()
