"""The command line in this process, as tests/cli has it."""

from tests.cli.conftest import refuse, stores

__all__ = ["refuse", "stores"]
