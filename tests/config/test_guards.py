"""What Hydra's grammar takes."""

import pytest

from lshfm.config.guards import parses


@pytest.mark.parametrize(
    ("word", "does"), [("lr=0.1", True), ("a=[1,2]", True), ("lr", False), ("root=~/x", False), ("a=b=(c", False)]
)
def test_what_the_grammar_takes(word: str, does: bool) -> None:
    assert parses(word) is does
