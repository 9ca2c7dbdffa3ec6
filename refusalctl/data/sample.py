"""The sample set: mild prompts written for this project, one id across six languages."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from refusalctl.data.jsonl import read_jsonl
from refusalctl.data.languages import SAMPLE
from refusalctl.disk import given_path
from refusalctl.errors import DataError
from refusalctl.records.rows import Prompt


@cache
def home() -> Path:
    """The folder `PolyRefuse/`: inside an installed wheel, or at the top of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "PolyRefuse", package.parent / "PolyRefuse"):
        if (folder / "manifest.json").is_file():
            return folder
    raise DataError("the folder PolyRefuse is missing from this installation", hint="reinstall refusalctl")


def user_home() -> Path:
    """Where fetched and own prompts live: `$REFUSALCTL_DATA_DIR`, the checkout, or the user's data folder."""
    override = os.environ.get("REFUSALCTL_DATA_DIR")
    if override:
        return given_path(override, "REFUSALCTL_DATA_DIR")
    if (home().parent / "pyproject.toml").is_file():
        return home()
    from platformdirs import user_data_path

    return user_data_path("refusalctl") / "PolyRefuse"


def languages() -> list[str]:
    return [lang for lang in SAMPLE if (home() / "sample" / f"{lang}.jsonl").is_file()]


def prompts(lang: str) -> list[Prompt]:
    """All sample prompts of one language, in file order."""
    english = {row["id"]: row["text"] for row in read_jsonl(home() / "sample" / "en.jsonl")}
    return [
        Prompt(
            **row,
            text_en=english[row["id"]],
            source="refusalctl-sample",
            flags=() if lang == "en" else ("not-reviewed",),
            cluster=row["id"],
        )
        for row in read_jsonl(home() / "sample" / f"{lang}.jsonl")
    ]
