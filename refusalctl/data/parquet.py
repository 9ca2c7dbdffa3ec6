"""Parquet as data sets have it: batch by batch, so that a small file that unfolds to any size is noticed in time."""

from __future__ import annotations

import io
from typing import Any

from pyarrow import ArrowException
from pyarrow.parquet import ParquetFile

from refusalctl.errors import DataError
from refusalctl.untrusted import LARGE

BATCH = 256  # rows at a time
MOST_CELLS = 10_000_000


def rows(name: str, content: bytes) -> list[dict[str, Any]]:
    """Every row. Raises `DataError` for what is no Parquet, or unfolds to more than a file of texts can have."""
    found: list[dict[str, Any]] = []
    size = 0
    try:
        file = ParquetFile(io.BytesIO(content))
        about = file.metadata
        groups = (about.row_group(i) for i in range(about.num_row_groups))
        said = sum(g.column(i).total_uncompressed_size for g in groups for i in range(g.num_columns))
        if said > LARGE or about.num_rows * max(1, about.num_columns) > MOST_CELLS:
            raise _too_large(name)
        for batch in file.iter_batches(batch_size=BATCH):
            size += batch.nbytes
            if size > LARGE:
                raise _too_large(name)
            found += batch.to_pylist()
    except (ArrowException, OSError, ValueError, OverflowError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: not Parquet that can be read", hint="fetch the file again") from error
    return found


def _too_large(name: str) -> DataError:
    return DataError(f"{name} unfolds to more than {LARGE // 2**20} MiB, or {MOST_CELLS:,} cells", hint="split it")
