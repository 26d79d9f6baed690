"""Output in an encoding that lacks some characters."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.processes import fresh


@pytest.mark.slow
def test_a_class_that_the_encoding_lacks_is_shown_escaped(tmp_path: Path, environment: dict[str, str]) -> None:
    for number in range(2):
        Image.fromarray(np.full((8, 8, 3), 9 * number, np.uint8)).save(tmp_path / f"{number}.png")
    for number, split in enumerate(("train", "test")):
        (tmp_path / f"{split}.csv").write_text(f"path,labels\n{number}.png,狗\n", encoding="utf-8")
    words = ("check", "dataset=manifest", "dataset.root=.", "workers=0")

    def said(encoding: str, *more: str) -> tuple[str, str]:
        variables = environment | {"PYTHONIOENCODING": encoding}
        return fresh(*words, *more, folder=tmp_path, environment=variables).communicate()

    rows = said("latin-1")[0].splitlines()
    assert r"| \u72d7         | 1 (0) | 1 (0) |" in rows
    assert "│ 狗         │ 1 (0) │ 1 (0) │" in said("utf-8")[0].splitlines()
    assert not said("ascii", "format=json")[1]
