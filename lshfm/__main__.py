"""python -m lshfm, and the command lshfm: what an early Ctrl-C meets while the rest is being imported."""

import signal
import sys


def main() -> int:
    """Run the command line and return its exit code."""
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # in the background it may be ignored
    if is_usual:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a traceback of imports tells nobody anything
    from lshfm import cli

    if is_usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
