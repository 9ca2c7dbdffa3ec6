"""Errors a user can act on. Each says what was expected, what was found, and what to do next.

Only `cli/app.py` turns them into text; everything that is not a `RefusalctlError` is a bug and keeps
its traceback.
"""

from __future__ import annotations


class RefusalctlError(Exception):
    """A known failure: one line for the reader, and what to do about it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}; {self.hint}"


class BadInput(RefusalctlError):
    """A value from the user that cannot be used."""


class DataError(RefusalctlError):
    """A prompt file that is missing, changed or malformed."""


class FileError(RefusalctlError):
    """A file or folder that the operating system or a library cannot read or write."""


class StoreError(RefusalctlError):
    """The artifact store cannot be read or written."""


class NotFound(StoreError):
    """No artifact answers to the reference."""


class Ambiguous(StoreError):
    """More than one artifact answers to the reference."""

    def __init__(self, reference: str, candidates: list[str]) -> None:
        listed = ", ".join(candidates[:6]) + (", ..." if len(candidates) > 6 else "")
        super().__init__(
            f"{reference!r} is ambiguous: it fits {len(candidates)} artifacts ({listed})",
            hint="give more characters of the id, or a name",
        )
        self.candidates = candidates


class Corrupt(StoreError):
    """A file in the store is not what its manifest says."""


class ModelError(RefusalctlError):
    """A model that is not there, or that this tool cannot read the residual stream of."""


class EmptySelection(RefusalctlError):
    """No candidate direction passes the selection rule, or no prompt is left to score them on."""


class UnfitOpenings(RefusalctlError):
    """Given refusal openings that do not rank the model's refusals above other answers: scores by them mean nothing."""


class GoalsFailed(RefusalctlError):
    """Parts of a run that failed while the others went on."""
