"""A folder as Hugging Face data sets are kept: rows, a card, and Croissant 1.1 metadata with its responsible-AI terms.

`datasets.load_dataset(FOLDER, "labels")` and `mlcroissant.Dataset(FOLDER/croissant.json)` open it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refusalctl.disk import make_folder, write_whole
from refusalctl.errors import BadInput
from refusalctl.file_errors import explained, printable
from refusalctl.interop.croissant import FileFacts, croissant
from refusalctl.interop.rows import RowTable, Told, Type

JSONL, PARQUET = "jsonl", "parquet"
_DTYPES: dict[Type, str] = {"text": "string", "integer": "int64", "number": "float64", "boolean": "bool"}
MARK = "<!-- Written by refusalctl. -->"


def write_dataset(folder: Path, tables: Sequence[RowTable], told: Told, form: str = JSONL) -> list[Path]:
    """Write the folder's files; the card comes last. `form`: `jsonl`, or `parquet`, which needs pyarrow.

    Tables of an earlier data set there go once the new ones are made.
    """
    files = []
    for table in tables:
        content = _parquet(table) if form == PARQUET else _jsonl(table)
        files.append(FileFacts(table, f"data/{table.name}.{form}", content))
    make_folder(folder / "data", "the data set")
    for old in (folder / "data").glob("*"):
        if old.suffix in (f".{JSONL}", f".{PARQUET}"):
            old.unlink()
    for each in files:
        with explained("write", folder / each.path):
            write_whole(folder / each.path, each.content)
    described = json.dumps(croissant(files, told), ensure_ascii=False, indent=1, sort_keys=True).encode()
    for name, content in (("croissant.json", described), ("README.md", card(tables, told, form).encode())):
        with explained("write", folder / name):
            write_whole(folder / name, content)
    return [folder / "data" / f"{t.name}.{form}" for t in tables] + [folder / "croissant.json", folder / "README.md"]


def check_folder(folder: Path, *, replace: bool) -> None:
    """Raise `BadInput` where a folder is not empty, unless it is a data set of ours and may be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    card_there = folder / "README.md"
    ours = card_there.is_file() and MARK in card_there.read_text(encoding="utf-8", errors="replace")
    if not (replace and ours):
        hint = "--replace replaces it" if ours else "name a folder that is not there yet"
        raise BadInput(f"{printable(str(folder))} is there already, expected an empty folder", hint=hint)


def _jsonl(table: RowTable) -> bytes:
    lines = (json.dumps({c: row[c] for c in table.columns}, ensure_ascii=False) for row in table.rows)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def _parquet(table: RowTable) -> bytes:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise BadInput(
            "Parquet needs pyarrow", hint="pip install 'refusalctl[parquet]', or --format dataset"
        ) from error
    kinds: dict[Type, Any] = {
        "text": pyarrow.string(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
    }
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in table.columns.items()])
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(table.rows, schema=schema), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


# --- the card ----------------------------------------------------------------------------------------

_WARNING = """\
**Prompts and answers are part of this data set.** Prompts of kind `harmful` ask for harm, and answers written under an
intervention may give it. They are there to measure a model's behaviour: do not train on them, and do not show them to
people who have not been told.
"""
_WITHOUT = """\
Prompts and answers are not part of this data set; their SHA-256 stands in their place. Who has the texts can tell
whether they are the same.
"""
LIMITS = (
    "Labels are judges' opinions, with errors that differ from language to language; `unparsed` means that a judge's "
    "verdict could not be read, and is in no rate. `kind` is the class of the prompt, never of what the model did."
)


def card(tables: Sequence[RowTable], told: Told, form: str) -> str:
    """README.md: the header that the hub reads, and what a person must know."""
    head = {
        "pretty_name": told.name,
        **({"license": told.licence} if told.licence else {}),
        **({"language": list(told.langs)} if told.langs else {}),
        "tags": ["refusalctl", "interpretability", "refusal", *(["not-for-all-audiences"] if told.texts else [])],
        "configs": [
            {"config_name": t.name, "data_files": [{"split": "test", "path": f"data/{t.name}.{form}"}]} for t in tables
        ],
        "dataset_info": [_info(table) for table in tables],
    }
    yaml = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items())
    parts = [
        f"---\n{yaml}\n---\n{MARK}\n\n# {printable(told.name)}\n",
        "What a chat model answered, and what judges said of it, as "
        "refusalctl measured it: does the refusal direction of a model carry over from one language to another?\n",
        _WARNING if told.texts else _WITHOUT,
        _facts(told),
        *(_columns(table) for table in tables),
        f"## Limits\n\n{LIMITS}\n",
        *(f"{note}\n" for note in told.notes),
    ]
    return "\n".join(parts)


def _info(table: RowTable) -> dict[str, Any]:
    features = [{"name": name, "dtype": _DTYPES[kind]} for name, kind in table.columns.items()]
    return {"config_name": table.name, "features": features}


def _facts(told: Told) -> str:
    rows: Mapping[str, Sequence[str]] = {
        "models": told.models,
        "languages": told.langs,
        "prompt sets": told.prompt_sets,
        "interventions": told.interventions,
        "judges": told.judges,
        "licence": [told.licence or "not told: prompts keep the licence of their source"],
        "made from": told.artifacts,
        "made by": [told.made_by],
    }
    lines = [f"| {what} | {', '.join(_cell(v) for v in found)} |" for what, found in rows.items() if found]
    return "\n".join(["| | |", "|---|---|", *lines, ""])


def _columns(table: RowTable) -> str:
    lines = [f"| `{name}` | {kind} | {table.meanings[name]} |" for name, kind in table.columns.items()]
    return "\n".join([f"## {table.name}: {len(table.rows)} rows\n", "| column | type | |", "|---|---|---|", *lines, ""])


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")
