"""JSON lines, read with the line number in every complaint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonlines

from refusalctl.disk import write_whole
from refusalctl.errors import DataError
from refusalctl.file_errors import explained
from refusalctl.json_types import Json
from refusalctl.untrusted import parse_json, read_lines


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Parse every line as an object. Raises `DataError` naming the file and line at fault."""
    try:
        with jsonlines.Reader(read_lines(path, follow=True), loads=parse_json) as reader:
            return list(reader.iter(type=dict))
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there") from error
    except (jsonlines.InvalidLineError, ValueError) as error:
        raise DataError(f"{path}: not JSON lines of objects ({str(error).splitlines()[0][:120]})") from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Json]]) -> None:
    """Write `rows` beside `path` and move them into place, so that the file is whole or absent."""
    lines = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    with explained("write", path, hint="name another folder with REFUSALCTL_DATA_DIR", kind=DataError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lines.encode())
