"""Canonical JSON, and the digests that the store's two keys are made of.

A *recipe key* says what was asked, an *artifact id* what came out; both are SHA-256 of canonical JSON:
sorted keys, no spaces, UTF-8, no NaN. Changing this function changes every key and id.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SHORT = 12


def canonical(value: Any) -> bytes:
    """Bytes that are equal for equal values. Raises `ValueError` for NaN and infinity, `TypeError` for objects."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


def content_digest(content: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def short(identifier: str) -> str:
    return identifier[:SHORT]
