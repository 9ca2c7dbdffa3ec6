"""The first signal waits for the batch in hand where batches are written down, the second does not."""

from __future__ import annotations

import pytest

from refusalctl.progress import Silent, batches
from refusalctl.stopping import batch_done, finishing_batches, signalled


class Asked(BaseException):
    """A signal."""


def test_outside_of_batches_a_signal_is_raised_at_once() -> None:
    with pytest.raises(Asked):
        signalled(Asked())
    batch_done()  # nothing waits


def test_a_signal_waits_for_the_batch_in_hand_and_no_longer() -> None:
    written: list[int] = []

    def work() -> None:
        with batches(Silent(), "work", 3) as advance:
            advance(0)
            for i in range(3):
                if i == 1:
                    assert signalled(Asked())
                written.append(i)
                advance()

    with pytest.raises(Asked):
        work()
    assert written == [0, 1]
    with pytest.raises(Asked):  # nothing waits any more
        signalled(Asked())


def test_a_second_signal_ends_at_once() -> None:
    with pytest.raises(Asked) as second, finishing_batches():
        signalled(Asked("first"))
        signalled(Asked("second"))
    assert str(second.value) == "second"


def test_a_signal_after_the_last_batch_is_raised_before_anything_else_begins() -> None:
    with pytest.raises(Asked), finishing_batches():
        batch_done()
        signalled(Asked())


def test_a_signal_is_not_forgotten_where_the_batch_fails() -> None:
    with pytest.raises(Asked) as raised, finishing_batches():
        signalled(Asked())
        raise ValueError("broken")
    assert isinstance(raised.value.__context__, ValueError)
