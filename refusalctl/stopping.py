"""Ending long work where little is lost: the first signal lets the batch in hand be finished and written down, a second
one ends at once.

Only where batches are written down (`finishing_batches`) does a signal wait; elsewhere it is raised where it comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_state: dict[str, BaseException | None] = {}  # "asked": the signal that waits; there only inside `finishing_batches`


@contextmanager
def finishing_batches() -> Iterator[None]:
    """Around a loop that calls `batch_done` after each batch that it has written down.

    A signal that waits is raised at the end, also where the block fails: an error comes again with the next run.
    """
    if "asked" in _state:  # one loop inside another: the outer one's batch is what counts
        yield
        return
    _state["asked"] = None
    try:
        yield
    finally:
        asked = _state.pop("asked", None)
        if asked is not None:
            raise asked


def batch_done() -> None:
    """What was computed is on the disk: a signal that waits is raised here."""
    asked = _state.get("asked")
    if asked is not None:
        raise asked


def signalled(how: BaseException) -> bool:
    """A signal came, which is to be raised as `how`. True if it waits for the batch in hand; else it is raised here."""
    if "asked" not in _state:
        raise how
    first, _state["asked"] = _state["asked"] is None, how
    if not first:
        raise how
    return True
