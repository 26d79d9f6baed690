"""Whatever is in a file or on the command line: a result or the user's error, nothing else."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.errors import HydraException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from lshfm.config.compose import Job, compose, conf_folder
from lshfm.config.explain import explain
from lshfm.config.schema import COMMANDS
from lshfm.config.words import rewrite
from lshfm.datasets.coco import COCO
from lshfm.datasets.voc import CLASSES, VOC
from lshfm.errors import InputError
from tests.agreement import require_agreement


def voc(folder: Path, annotation: bytes, listed: bytes = b"a") -> VOC:
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / "VOC2007" / part).mkdir(parents=True)
    (folder / "VOC2007/Annotations/a.xml").write_bytes(annotation)
    (folder / "VOC2007/ImageSets/Main/train.txt").write_bytes(listed)
    return VOC(folder)


def coco(folder: Path, data: bytes) -> COCO:
    (folder / "annotations").mkdir()
    (folder / "train").mkdir()
    (folder / "annotations/instances_train.json").write_bytes(data)
    return COCO(folder, keep="all")


def in_a_folder(build: Callable[..., Any], *contents: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        require_agreement(build(Path(folder), *contents), "train")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
tags = st.sampled_from(["annotation", "object", "name", "difficult", "bndbox", "xmin", "size", "width", "part"])
leaves = st.sampled_from([*CLASSES[:3], "0", "1", "nan", "-1e999", "&#0;", "&lol;", "<![CDATA[x]]>", "", "²"]) | texts
trees = st.recursive(leaves, lambda inner: st.builds("<{0}>{1}</{0}>".format, tags, st.lists(inner).map("".join)))


@pytest.mark.slow
@given(st.binary(max_size=60) | st.lists(trees).map(lambda t: f"<annotation>{''.join(t)}</annotation>".encode()))
def test_any_annotation_of_voc(annotation: bytes) -> None:
    in_a_folder(voc, annotation)


@given(
    st.binary(max_size=30)
    | st.lists(st.sampled_from(["a", "../a", "/a", "a b", "", "a\x00", ".", "é"])).map(
        lambda ids: "\n".join(ids).encode()
    )
)
def test_any_list_of_voc(listed: bytes) -> None:
    in_a_folder(voc, b"<annotation><object><name>dog</name></object></annotation>", listed)


values = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | texts | st.just("a.jpg") | st.just(10**30)
entries = st.dictionaries(
    st.sampled_from(["id", "name", "file_name", "image_id", "category_id", "bbox", "width", "height", "iscrowd"]),
    values | st.lists(values, max_size=4),
)
files = st.dictionaries(
    st.sampled_from(["images", "annotations", "categories", "info"]), values | st.lists(entries | values)
)


@given(st.binary(max_size=60) | (files | st.lists(files) | values).map(lambda data: json.dumps(data).encode()))
def test_any_file_of_coco(data: bytes) -> None:
    in_a_folder(coco, data)


@given(st.dictionaries(st.integers(0, 10**12), st.sets(st.integers(0, 3)), min_size=1, max_size=8), st.randoms())
def test_a_file_of_coco_comes_back(shown: dict[int, set[int]], order: Any) -> None:
    """Labels by ascending image and category, whatever the order in the file."""
    lists: dict[str, list[dict[str, Any]]] = {
        "images": [{"id": image, "file_name": f"{image}.jpg"} for image in shown],
        "categories": [{"id": 10 * c, "name": f"class {c}"} for c in range(4)],
        "annotations": [{"image_id": image, "category_id": 10 * c} for image, cs in shown.items() for c in cs],
    }
    for entries_ in lists.values():
        order.shuffle(entries_)
    for number, entry in enumerate(lists["annotations"]):
        entry["id"] = number
    with tempfile.TemporaryDirectory() as folder:
        split = coco(Path(folder), json.dumps(lists).encode()).split("train")
    assert split.ids == tuple(map(str, sorted(shown)))
    assert split.classes == tuple(f"class {c}" for c in range(4))
    wanted = [[1 if c in shown[image] else -1 for c in range(4)] for image in sorted(shown)]
    assert np.array_equal(split.labels, wanted)


NAMES = """lr epochs freeze gpus ranks seed model loss dataset name dataset.size augment.flip schedule.steps
    dataset.preset.lr model.pool nosuchkey hydra.run.dir stage1.lr stage2.loss hydra/launcher teacher é"""
VALUES = """1 0 -1 nan inf 1e400 [] [1,2] [[l2]] [l2,lsh] [l2,null] [ {a:1} null true '' a=b ${lr} ${oc.env:HOME}
    ${nosuch:1} ??? resnet8 bce shapes \\ ' " !!python/name:os.system GAP"""
names, given_values = st.sampled_from(NAMES.split()), st.sampled_from([*VALUES.split(), "a b", "9" * 400])
words = st.builds("{}{}={}".format, st.sampled_from(["", "", "", "+", "++", "~"]), names, given_values) | texts.filter(
    bool
)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["train", "mimic", "check"]), st.lists(words, max_size=3))
def test_any_words_at_the_door(command: str, argv: list[str]) -> None:
    with conf_folder():
        try:
            overrides = [word for word in rewrite(command, argv) if "=" in word]
            assert isinstance(compose(COMMANDS[command], overrides), Job)
        except InputError as error:
            assert str(error)  # noqa: PT017
        except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
            assert str(explain(command, error))  # noqa: PT017 - as the command line shows it
