"""A minute of coverage-guided fuzzing of the annotation readers, from a valid file of each format."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TARGET = Path(__file__).with_name("fuzz_annotations.py")
SEEDS = [  # in the order of the target's FORMATS, which the first byte picks from
    "<annotation><size><width>3</width><height>4</height></size><object><name>cat</name><difficult>1</difficult>"
    "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>",
    '{"categories": [{"id": 1, "name": "cat"}], "images": [{"id": 7, "file_name": "7.jpg", "width": 3, "height": 4}], '
    '"annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 2]}]}',
    "path,labels,difficult,id\na.jpg,cat;dog,cow,1\n",
    '{"path": "a.jpg", "labels": ["cat"], "difficult": ["dog"], "id": "1"}\n',
    "a\nb\n",
]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_minute_of_fuzzing_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel here")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, text in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(bytes([number]) + text.encode())
    limits = ["-max_total_time=60", "-timeout=20", "-rss_limit_mb=2000", f"-artifact_prefix={tmp_path}/found-"]
    command = [sys.executable, TARGET, *limits, corpus]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", cwd=tmp_path, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(tmp_path.glob("found-*")) == []
    runs = re.search(r"Done (\d+) runs", done.stderr)
    assert runs, done.stderr[-3000:]
    assert int(runs[1]) > 1000
    assert len(list(corpus.iterdir())) > len(SEEDS)  # coverage grew: the readers are instrumented
