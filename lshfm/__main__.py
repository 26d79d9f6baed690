"""python -m lshfm, and the command lshfm."""

import sys

from lshfm import outcome


def main() -> int:
    """Run the command line and return its exit code."""
    with outcome.silently_interrupted():
        from lshfm import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
