"""Arrays that a run has kept. numpy leaves their file open until it is collected, which Python 3.13 warns of."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file."""
    with np.load(path) as kept:
        return dict(kept)
