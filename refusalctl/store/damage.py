"""The kinds of damage that `verify` names, one word each, for programs that read its JSON."""

from __future__ import annotations

from enum import StrEnum


class Damage(StrEnum):
    """What is wrong; `PAYLOAD`, below, is what only the recipe gives back."""

    CHANGED_BYTES = "changed-bytes"
    WRONG_SIZE = "wrong-size"
    MISSING_FILE = "missing-file"
    UNREADABLE = "unreadable"
    FOREIGN_FILE = "foreign-file"
    MISSING_MANIFEST = "missing-manifest"
    CHANGED_MANIFEST = "changed-manifest"
    WRONG_KIND = "wrong-kind"
    UNKNOWN_VERSION = "unknown-version"
    CHANGED_RUN = "changed-run"
    MISSING_INPUT = "missing-input"
    MISSING_ARTIFACT = "missing-artifact"
    MISSING_MARK = "missing-mark"
    CHANGED_MARK = "changed-mark"
    MISSING_NAME = "missing-name"
    CHANGED_NAME = "changed-name"
    DANGLING_NAME = "dangling-name"
    MISSING_RECORD = "missing-record"
    CHANGED_RECORD = "changed-record"
    CHANGED_CACHE = "changed-cache"


PAYLOAD = frozenset({
    Damage.CHANGED_BYTES, Damage.WRONG_SIZE, Damage.MISSING_FILE, Damage.MISSING_MANIFEST, Damage.CHANGED_MANIFEST,
    Damage.CHANGED_RUN,
})  # fmt: skip
