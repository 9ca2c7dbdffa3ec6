"""`python -m refusalctl`, and the console script: Ctrl-C works from the first moment, and so do completions, before
anything is loaded."""

import os
import signal
from types import FrameType


def _at_once(number: int, _frame: FrameType | None) -> None:
    """While modules are loaded nothing has begun that would have to end well."""
    word = "interrupted" if number == signal.SIGINT else "terminated"
    os.write(2, f"note: {word}; nothing had begun\n".encode())
    os._exit(128 + number)


def main() -> None:
    """Load the command line, and run the command."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _at_once)
    if "_REFUSALCTL_COMPLETE" in os.environ:
        from refusalctl.cli.complete import answer

        if (found := answer(os.environ)) is not None:
            os.write(1, f"{found[0]}\n".encode())
            os._exit(found[1])
    from refusalctl.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
