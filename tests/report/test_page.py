"""The page is one file that is safe whatever the names in it are."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from lshfm.metrics.multilabel import losses_of_images, precision_recall
from lshfm.report import curves, mimicry_page, multilabel_page, sweep_page
from lshfm.report.arms import arms_of
from lshfm.report.blocks import Example, Gallery, Pictures, Section
from lshfm.report.gallery import largest, pair_of
from lshfm.report.page import page
from lshfm.report.tables_page import commands, comparison, costs, environment, runs_table, settings_table
from tests.report.facts import a_run, a_student, outputs

HOSTILE = '"><script>alert(1)</script>$\\frac{a$</svg>\x00\u202e&\ud800'


class Seen(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


@pytest.fixture(scope="module")
def hostile() -> str:
    """A page of all sections with hostile classes, ids, names, errors and commands."""
    classes = (HOSTILE, "dog", "bird")
    own = {"ap": {name: {"voc2010": 40.0} for name in classes}}
    mimicry = {"mimicry": {"angle": 12.0}}
    runs = [
        a_run("alone", network=HOSTILE, classes=classes, report=own, ending=HOSTILE, missing=(HOSTILE,)),
        *(a_student(f"m{beta}", network=HOSTILE, classes=classes, report=own | mimicry, loss=HOSTILE,
                    settings={"loss.beta": beta, HOSTILE: beta}, command_line=(HOSTILE,)) for beta in (1, 2)),
    ]  # fmt: skip
    arms = arms_of(runs)
    example = Example(HOSTILE, None, [HOSTILE], [(HOSTILE, 0.5, True)], [], HOSTILE)
    found = [
        comparison(arms, HOSTILE), *multilabel_page.sections(arms), mimicry_page.section(arms), curves.section(arms),
        sweep_page.section(arms), costs(arms), runs_table(runs), settings_table(arms), environment(runs),
        commands(runs),
        Section("examples", "Examples", [Gallery(HOSTILE, HOSTILE, HOSTILE, [example])]),
    ]  # fmt: skip
    assert all(found)
    return page(HOSTILE, [section for section in found if section], [HOSTILE])


def test_hostile_names_are_text(hostile: str) -> None:
    seen = Seen()
    seen.feed(hostile)
    assert seen.tags.count("script") == 1
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name == "style"]
    assert "\x00" not in hostile
    assert "\u202e" not in hostile
    assert "\\u202e" in hostile
    hostile.encode()  # no lone surrogate is left


def test_nothing_is_requested(hostile: str) -> None:
    """No address but names of XML's vocabularies; links go to places on the page; pictures are in it."""
    seen = Seen()
    seen.feed(hostile)
    targets = [value or "" for name, value in seen.attributes if name in ("href", "src", "xlink:href")]
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert "url(http" not in hostile
    assert not re.search(r"@import|https?://(?!www\.w3\.org)", hostile)


def test_the_policy_lets_in_the_page_s_own_script_and_style_alone(hostile: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', hostile)
    assert policy
    assert policy[1].startswith("default-src 'none'; img-src data:;")
    for tag in ("script", "style"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", hostile, re.DOTALL)
        assert text
        digest = base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;".replace("&#39;", "'") in policy[1].replace("&#39;", "'").replace(
            "&#43;", "+"
        )


def test_pictures_are_valid_and_take_the_page_s_colours(hostile: str) -> None:
    arms = arms_of([a_run("alone"), a_student("a")])
    section = mimicry_page.section(arms)
    assert section
    pictures = [p for block in section.blocks if isinstance(block, Pictures) for p in block.pictures]
    assert len(pictures) == 6  # angle and length over epochs; three distributions; a cloud
    for picture in pictures:
        ElementTree.fromstring(picture.svg)
        assert not re.search(r"#0[1-5]0[1-5]0", picture.svg)
        assert "var(--ink)" in picture.svg
        assert "style=" not in picture.svg
    ids = re.findall(r' id="([^"]*)"', "".join(picture.svg for picture in pictures))
    assert len(ids) == len(set(ids))


def test_thresholds_are_those_of_the_evaluation() -> None:
    arrays = outputs(3)
    middle = int(np.argmin(abs(multilabel_page.THRESHOLDS - 0.5)))
    assert multilabel_page.THRESHOLDS[middle] == pytest.approx(0.5)
    curve = {name: values[middle] for name, values in multilabel_page.at_thresholds(arrays).items()}
    told = precision_recall(arrays["logits"] >= 0, arrays["targets"])
    assert curve == pytest.approx({name: told[name] for name in curve})


def test_a_precision_recall_curve_by_hand() -> None:
    scores, labels = np.array([4, 3, 2, 1.0]), np.array([1, -1, 0, 1], np.int8)  # the third is difficult
    precision, recall = multilabel_page.precision_recall_curve(scores, labels)
    assert (precision.tolist(), recall.tolist()) == ([1.0, 2 / 3], [0.5, 1.0])


def test_a_picture_is_whole_however_long_it_is() -> None:
    """Names are cut where they are much too long."""
    picture = f"data:image/jpeg;base64,{'A' * 9000}"
    gallery = Gallery("t", "a", "b", [Example("i" * 9000, picture, [], [], [], "")])
    text = page("t", [Section("s", "s", [gallery])])
    assert f'src="{picture}"' in text
    assert "i" * 5000 not in text


def test_examples_are_the_images_that_change_most() -> None:
    worse, better = a_run("alone", score=40.0), a_student("m", score=60.0)
    better = replace(better, arrays={**better.arrays, **{k: v[::-1] for k, v in worse.arrays.items()}})
    pair = pair_of(arms_of([worse, better]))
    assert pair
    a, b = (losses_of_images(run.arrays["logits"], run.arrays["targets"]) for run in pair.runs)
    assert a[pair.rows[:, 0]].tolist() == b[pair.rows[:, 1]].tolist()  # the same images, in whatever order they lie
    up, down = largest(np.array([0.5, -2.0, 0.0, 3.0]))
    assert (up.tolist(), down.tolist()) == ([3, 0], [1])


def test_a_sweep_of_two_keys_is_a_heat_map_and_one_key_a_line() -> None:
    grid = [a_student(f"{b}{n}", score=50.0 + b + n, settings={"loss.beta": b, "loss.hash_num": n})
            for b in (1, 3) for n in (64, 128)]  # fmt: skip
    section = sweep_page.section(arms_of(grid))
    assert section
    titles = [p.title for block in section.blocks if isinstance(block, Pictures) for p in block.pictures]
    assert titles == ["voc2010 mAP over loss.beta and loss.hash_num", "all keys and voc2010 mAP"]
    one = sweep_page.section(arms_of(grid[::2]))
    assert one
    assert isinstance(one.blocks[1], Pictures)
    assert one.blocks[1].pictures[0].title == "voc2010 mAP over loss.beta"
    assert sweep_page.section(arms_of([a_student("a"), a_student("b", loss="lsh")])) is None
