"""What no single key of a training run can say, refused before anything is written."""

from typing import Any

import pytest

from lshfm.config.schema import Train
from lshfm.errors import InputError
from lshfm.ranks import group
from lshfm.ranks.group import Place
from lshfm.runs.check import check_training
from tests.jobs import changed


@pytest.mark.parametrize(
    ("ranks", "others", "message"),
    [
        (3, {}, "batch_size=8 is that of all ranks: their number, 3, must divide it"),
        (1, {"accumulate": 3}, "accumulate=3 must divide batch_size=8"),
        (2, {"accumulate": 8}, "accumulate=8 must divide the 4 images of a batch that a rank gets"),
        (2, {"bn_group_size": 3}, r"bn_group_size=3 must divide 4, .*\(batch_size=8, ranks: 2, accumulate=1\)"),
        (2, {"bn_group_size": 4, "accumulate": 2}, "bn_group_size=4 must divide 2, the images that go through the"),
        (1, {"bn_group_size": 16}, "bn_group_size=16 must divide 8"),
    ],
)
def test_refusals(
    settings: Train, monkeypatch: pytest.MonkeyPatch, ranks: int, others: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(group, "_places", [Place(0, ranks, 0, ranks)])
    with pytest.raises(InputError, match=f"^{message}"):
        check_training(changed(settings, {"batch_size": 8} | others), 24)


@pytest.mark.parametrize(
    ("ranks", "others"),
    [(1, {}), (4, {"accumulate": 2}), (2, {"bn_group_size": 2, "accumulate": 2}), (8, {"bn_group_size": 1})],
)
def test_what_fits(settings: Train, monkeypatch: pytest.MonkeyPatch, ranks: int, others: dict[str, Any]) -> None:
    monkeypatch.setattr(group, "_places", [Place(0, ranks, 0, ranks)])
    check_training(changed(settings, {"batch_size": 8} | others), 24)
