"""What is said of a detector before and after its export."""

from dataclasses import replace

import pytest

from lshfm.errors import RunFailed
from lshfm.shipping.box_parity import BoxParity

SAME = BoxParity(6, 4, 100.0, 0.5, 0.0, "COCO AP", 1.0, 1.0)


def test_that_nothing_was_found_is_said() -> None:
    """Such an export is kept, but all of no detections is no agreement."""
    assert "100.00 % of 4 detections are in both" in SAME.words
    none = replace(SAME, detections=0, largest_box_difference=0.0)
    none.require()
    assert none.words.startswith("6 images: neither network finds anything, so that nothing is compared, COCO AP 1.00")
    with pytest.raises(RunFailed, match=r"0\.00 % of 0 detections are in both"):
        replace(none, in_both=0.0).require()
