"""JSON lines, read with the line number in every complaint."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonlines

from refusalctl.errors import DataError
from refusalctl.json_types import Json


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Parse every line as an object. Raises `DataError` naming the file and line at fault."""
    try:
        with jsonlines.open(path) as reader:
            return list(reader.iter(type=dict))
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there") from error
    except (jsonlines.InvalidLineError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON lines of objects ({str(error).splitlines()[0][:120]})") from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Json]]) -> None:
    """Write `rows` beside `path` and move them into place, so that the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
