"""Help: a text for every key, headings, lines as wide as the terminal; and settings as they hold."""

import re
from pathlib import Path

import pytest
import yaml

from lshfm import cli
from lshfm.commands import recipes, report, runs
from lshfm.config.catalogue import comments, groups, in_order
from lshfm.config.compose import compose_unchecked, conf_folder
from lshfm.config.headings import SECTIONS
from lshfm.config.help import MARGIN, command_help, settings_text
from lshfm.config.schema import COMMANDS
from lshfm.config.slips import refuse_slips
from lshfm.config.words import rewrite

PAGES = [
    ("train", []),
    ("train", ["dataset=coco", "model=timm", "label_loss@loss=asl"]),
    ("train", ["dataset=manifest", "model=vgg16_bn"]),
    ("mimic", ["loss=[kl,lsh]", "dataset=voc2007"]),
    ("eval", []),
    ("eval", ["dataset=voc2007", "model=resnet8", "teacher=resnet20"]),
    ("check", ["dataset=coco2014"]),
    ("predict", []),
]


@pytest.mark.parametrize(("command", "words"), PAGES, ids=[" ".join([command, *words]) for command, words in PAGES])
def test_every_key_is_explained(command: str, words: list[str]) -> None:
    page = command_help(command, words)
    rows = [line for line in page.partition("\nkeys (")[2].splitlines() if line.startswith("  ")]
    assert [row for row in rows if not re.match(r"  \S+  +\S.*  \[.*\]$", row)] == []
    keys = [row.split()[0] for row in rows]
    assert not {"recipe", "published", "stage1", "teacher.weights"} & set(keys)
    assert not [key for key in keys if "preset" in key or ".terms." in key or key.endswith(("_target_", ".kind"))]
    assert command == "predict" or "dataset.root" in keys or "dataset.num_train" in keys


def test_keys_stand_under_headings() -> None:
    page = command_help("train", [])
    found = re.findall(r"\n\n(\w[^:\n]*):\n  ", page.partition("\nkeys (")[2])
    of_others = ("one stage alone", "the teacher", "pictures and labels", "the exported file", "its check")
    assert found == [*(title for title in SECTIONS if title not in of_others), "dataset", "model", "loss", "sweeps"]


def test_lines_are_no_wider_than_the_terminal() -> None:
    page = command_help("mimic", [], width=60)
    keys = page.partition("\nkeys (")[2].partition("\nsettings=FILE")[0]
    assert max(map(len, keys.splitlines()[1:])) <= 60
    assert (
        " ".join(page.split()).count("CUDA devices: a list as [0,1], a number n > 0 for the first n, [] for the CPU;")
        == 1
    )
    assert "\n" + " " * MARGIN in page  # in a column of their own


def test_options_are_in_the_order_of_their_numbers() -> None:
    networks = ["resnet8", "resnet8x4", "resnet14", "resnet101", "resnet110", "vgg16_bn"]
    assert in_order(sorted(networks)) == networks
    assert "resnet8, resnet8x4, resnet14, resnet18," in " ".join(command_help("train", []).split())


def test_a_file_explains_its_own_keys(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/base.yaml").write_text("_target_: a.B\nwide: 3  # times the width\ndeep: 2  # blocks\n")
    (tmp_path / "model/mine.yaml").write_text(
        "defaults: [base, _self_]\ndeep: 4  # layers\nplain: '#'\ntall: 1\n# no word on it\n"
    )
    assert comments("model", "mine", [tmp_path]) == {"wide": "times the width", "deep": "layers"}
    with conf_folder([tmp_path]):
        page = command_help("train", ["model=mine"])
    assert "\n  model.wide              times the width  [3]\n" in page
    assert "\n  model.plain  [#]\n" in page


def test_settings_are_shown_as_they_hold() -> None:
    values = yaml.safe_load(settings_text("mimic", ["epochs=3"]))
    assert (values["schedule"]["cosine_epochs"], values["student"]["arch"], values["teacher"]["arch"]) == (
        3,
        "resnet8",
        "resnet20",
    )
    values = yaml.safe_load(settings_text("train", ["model=timm", "dataset=voc2007"]))
    assert (values["model"]["name"], values["model"]["arch"], values["dataset"]["root"]) == ("???", "???", "???")
    assert "${" not in "".join(settings_text(command, []) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_begins_with_ten_keys_and_an_example_of_each(command: str) -> None:
    page = command_help(command, [])
    first = page.partition("most used, each with an example:\n")[2].partition("\n\n")[0].splitlines()
    examples = [line.split()[0] for line in first]
    assert len(examples) == 10
    known = page.partition("\nkeys (")[2] + "".join(f"\n  {group} " for group in groups(command))
    keys = [example.partition("=")[0] for example in examples]
    assert [key for key in keys if f"\n  {key}" not in known and not key.startswith(("dataset", "thresholds"))] == []
    refuse_slips(command, examples)
    with conf_folder():  # all together: a key that is not there, or an option, is refused
        compose_unchecked(command, rewrite(command, examples))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_of_80_columns(command: str) -> None:
    assert [line for line in command_help(command, [], 80).splitlines() if len(line) > 80] == []


def test_help_without_settings_fits_a_terminal_of_80_columns() -> None:
    pages = (cli._overview(), recipes.HELP, report.HELP, runs.HELP)
    assert [line for page in pages for line in page.splitlines() if len(line) > 80] == []
    way = re.findall(r"^  lshfm (\w+)", pages[0], re.MULTILINE)
    assert way == ["check", "train", "mimic", "report", "predict", "export"]
