"""The entry point of `lshfm` and `python -m lshfm`: a sign of life and a quiet Ctrl-C while the rest is imported."""

import os
import signal
import sys

from lshfm import __version__


def main() -> int:
    """Run the command line and return its exit code."""
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # in the background it may be ignored
    if is_usual:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a traceback of imports tells nobody anything
    _give_a_sign_of_life(sys.argv[1:])
    from lshfm import cli

    if is_usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()


def _give_a_sign_of_life(words: list[str]) -> None:
    """On a terminal, before what takes seconds; not for help, and one of the ranks that torchrun starts speaks."""
    is_seen = sys.stdout is not None and sys.stdout.isatty() and os.environ.get("RANK", "0") == "0"
    if is_seen and words and not {"-h", "--help", "help", "--version"} & set(words):
        print(f"lshfm {__version__} is starting", flush=True)


if __name__ == "__main__":
    sys.exit(main())
