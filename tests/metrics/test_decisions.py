"""From logits to labels."""

import numpy as np
import pytest

from lshfm.errors import InputError
from lshfm.metrics.decisions import Decisions, named

LOGITS = np.array([[2.0, -1.0, 0.0, 2.0]], np.float32)


def test_probabilities_are_those_of_the_activation() -> None:
    given = np.array([[0.0, np.log(3.0)], [1000.0, -1000.0]])
    assert np.allclose(Decisions("sigmoid").probabilities(given), [[0.5, 0.75], [1, 0]], atol=1e-15)
    assert np.allclose(Decisions("softmax").probabilities(given), [[0.25, 0.75], [1, 0]], atol=1e-15)
    assert np.allclose(Decisions("sigmoid", temperature=2.0).probabilities(2 * given[:1]), [[0.5, 0.75]])


def test_what_is_predicted() -> None:
    plain, softmax = Decisions("sigmoid"), Decisions("softmax")
    tuned = Decisions("sigmoid", thresholds=(0.9, 0.2, 0.6, 0.5))
    probabilities = plain.probabilities(LOGITS)[0]
    assert plain.chosen(probabilities) == [0, 3, 2]  # likeliest first, of equal ones the earlier; 0.5 is enough
    assert tuned.chosen(probabilities) == [3, 1]
    assert tuned.chosen(probabilities, threshold=0.5) == [0, 3, 2]  # in place of those for each class
    assert plain.chosen(probabilities, top=1) == [0]
    assert plain.chosen(np.full(4, 0.1), top=2) == [0, 1]  # whatever their probability
    assert plain.chosen(probabilities, threshold=0.6, top=3) == [0, 3]
    assert softmax.chosen(softmax.probabilities(LOGITS)[0]) == [0, 3, 2, 1]  # at most five
    assert softmax.chosen(np.linspace(0.3, 0, 7)) == [0, 1, 2, 3, 4]
    assert list(named("abcd", probabilities, [3, 1])) == ["d", "b"]


@pytest.mark.parametrize("asked", [{"threshold": 1.5}, {"threshold": -0.1}, {"top": 0}])
def test_what_is_no_threshold(asked: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(asked))):
        Decisions("sigmoid").chosen(np.zeros(2), **asked)  # type: ignore[arg-type]
