"""README and docs/ say what is true: commands are taken, code runs, links lead somewhere, refusals exist."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from docs.made.config_reference import config_reference
from docs.made.photos import FOLDER, photos
from docs.made.pictures import PICTURES
from docs.made.recipe_tables import recipe_tables
from docs.made.spellings import spellings
from lshfm import __version__, cli
from lshfm.commands import report, runs
from lshfm.config.catalogue import group_folder, groups, options, register_teachers
from lshfm.config.compose import compose_unchecked, conf_folder
from lshfm.config.headings import HIDDEN
from lshfm.config.keys import key_fields
from lshfm.config.recipes import recipes
from lshfm.config.schema import COMMANDS, Mimic
from lshfm.config.slips import all_keys, refuse_slips
from lshfm.config.stages import plan
from lshfm.config.sweeping import FLAGS, asked, is_of_hydra, is_sweep, sweep_keys, without_sweep
from lshfm.config.words import folders_of, refuse_foreign_recipes, rewrite, without_launcher
from lshfm.errors import LshfmError
from tests.documents import BLOCKS, PAGES, PROGRAMS, ROOT, Block, program_of, prose_of
from tests.fresh import forget_own_teachers

LINES = [(block, line) for block in BLOCKS if block.is_shell for line in block.commands()]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
PYTHON = [block for block in BLOCKS if block.info.split()[:1] == ["python"]]


def at(block: Block) -> str:
    return f"{block.page}:{block.line}"


def test_blocks_of_commands_hold_nothing_else() -> None:
    """Data and output have a language behind the fence, so that no command escapes the tests below."""
    strange = [f"{at(block)}: {line}" for block, line in LINES if program_of(line) not in PROGRAMS]
    assert strange == []
    assert len(LINES) > 100  # and they are found at all


def words_of(line: str) -> list[str]:
    """The words behind lshfm in a command line, however it is started; none where it is another program."""
    words = shlex.split(line)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    names = [word.rpartition("/")[2] for word in words]
    return words[names.index("lshfm") + 1 :] if "lshfm" in names else []


def test_keys_and_options_of_every_command_line_are_there() -> None:
    """Each word alone, without composing: a group's option, or a key that some option has."""
    assert faults("lshfm train modell=resnet18 model=resnet19 stage1.lr=1 loss=bce -m seed=0,1") == [
        "no key modell", "no model=resnet19",
    ]  # fmt: skip
    texts = lines_of_lshfm() | inline_commands()
    assert len(texts) > 120
    assert {f"{places}: {text}": found for text, places in texts.items() if (found := faults(text))} == {}


def inline_commands() -> dict[str, str]:
    """Commands within sentences and tables, with their page."""
    found: dict[str, str] = {}
    for page in filter(Path.is_file, PAGES):
        for text in re.findall(r"`(lshfm [^`]+)`", prose_of(page)):
            words = text.split()
            if words[1] in cli.COMMANDS and "(" not in text and "|" not in text:
                found[" ".join(words)] = page.name
    return found


def faults(text: str) -> list[str]:
    """What of a command line's words is not there."""
    command, *rest = words_of(text)
    folders, found = [folder.absolute() for folder in folders_of(rest)], []
    for word in rest if command in COMMANDS and Path("myconf").absolute() not in folders else ():
        name, equals, value = word.lstrip("+").partition("=")
        if not equals or word.startswith("-") or is_of_hydra(word):
            continue
        key = re.sub(r"^stage[12]\.|^sweep\.teacher\.(?=.)", "", name)
        if key not in known_keys(command):
            found.append(f"no key {name}")
        elif key in known_groups(command) and key not in ("teacher", "student", "experiment"):
            there = options(group_folder(command, key), folders)
            found += [
                f"no {key}={each}" for each in re.split(r"[\[\],'\"\s]+", value) if each not in ("", "...", *there)
            ]
    return found


@cache
def known_groups(command: str) -> list[str]:
    return list(groups(command))


@cache
def known_keys(command: str) -> set[str]:
    """A command's keys with those that are some option's own, as its file has them."""
    found = all_keys(command) | set(sweep_keys(command)) | {f"loss.{name}.weight" for name in options("loss")}
    for group in groups(command):
        for folder in (group_folder(command, group), "parts"):
            files = [*(ROOT / "conf" / folder).glob("*.yaml"), *(ROOT / "examples/own/conf" / folder).glob("*.yaml")]
            names = re.findall(r"^(\w+):", "\n".join(path.read_text() for path in files), re.MULTILINE)
            found |= {f"{group}.{name}" for name in names}
    networks = re.findall(
        r"^(\w+):", "\n".join(p.read_text() for p in (ROOT / "conf/model").glob("*.yaml")), re.MULTILINE
    )
    return found | {f"teacher.{name}" for name in [*networks, "path"]}


@pytest.mark.parametrize(
    "pages",
    [pytest.param(("README.md",), id="readme"), pytest.param(("docs/",), id="docs", marks=pytest.mark.slow)],
)
def test_every_command_line_of_lshfm_composes(pages: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As `--cfg job` does it: a key that what is chosen beside it does not have is refused, and a missing recipe."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "examples/own"))
    wrong = []
    for text, places in lines_of_lshfm().items():
        if not places.startswith(pages):
            continue
        try:
            take(words_of(text))
        except (LshfmError, HydraException, OmegaConfBaseException) as error:
            wrong.append(f"{places}: {text}\n    {error}")
    assert wrong == [], "\n".join(wrong)


@cache
def lines_of_lshfm() -> dict[str, str]:
    """Each different command line with the places where it stands."""
    found: dict[str, str] = {}
    for block, line in LINES:
        if words_of(line):
            found[line] = f"{found.get(line, '')} {at(block)}".strip()
    return found


def take(words: list[str]) -> None:
    """Read a command line as the command does, short of files, machines and work."""
    words = [word for word in words if word != "..."]
    if not words or words[0] in ("--help", "--version", "completion", "help"):
        return
    command, rest = words[0], words[1:]
    assert command in cli.COMMANDS, f"no such command: {command}"
    if command == "runs":
        runs._asked([word for word in rest if "=" in word])
    elif command == "report":
        report.parse(rest)
    elif command == "recipes":
        assert not rest
    else:
        compose_line(command, rest)


def compose_line(command: str, rest: list[str]) -> None:
    """Compose the settings of a command line; of a sweep those of its first job."""
    if any(word.startswith("settings=") for word in rest):
        return
    rest = own_files_left_out([word for word in rest if word not in {"--help", "--cfg", "job"}])
    refuse_slips(command, rest)
    refuse_foreign_recipes(command, rest)
    folders = folders_of(rest)
    assert all(folder.is_dir() for folder in folders)
    forget_own_teachers()
    register_teachers(folders)
    if is_sweep(rest):
        rest = first_job(command, without_launcher(rest))
    overrides = [word for word in rewrite(command, without_sweep(rest)) if not word.startswith("-")]
    with conf_folder([folder.absolute() for folder in folders]):
        overrides = [word for word in overrides if word not in map(str, folders)]
        if any(word.startswith("++stage") for word in overrides):
            plan([*overrides, *missing_root(overrides)], [])
        else:
            compose_unchecked(command, overrides)


def own_files_left_out(rest: list[str]) -> list[str]:
    """Without a folder that a page only names, and what is chosen from it."""
    if "myconf" not in rest:
        return rest
    left = [word for word in rest if word not in ("--config-dir", "myconf") and "mine" not in word]
    return [word for word in left if not word.startswith("model.width")]


def first_job(command: str, rest: list[str]) -> list[str]:
    """The words of a sweep's first job."""
    sweep = asked(command, [word for word in rest if not is_of_hydra(word)])
    if sweep.arms:
        return list(sweep.arms[0].words)
    return [word for word in sweep.words if word.partition("=")[0] not in sweep.space and word not in FLAGS]


def missing_root(overrides: list[str]) -> Iterator[str]:
    """A folder where the data set needs one and the page leaves it out."""
    if not any("dataset.root" in word for word in overrides):
        config, _ = compose_unchecked(Mimic.command, overrides)
        if "root" in config.dataset:
            yield "dataset.root=DIR"


def test_other_programs_are_there() -> None:
    """make's targets, pip's extras, scripts of the repository."""
    wrong = []
    for block, line in LINES:
        words = shlex.split(line)
        if program_of(line) == "make":
            names = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            wrong += [f"{at(block)}: make {name}" for name in names if name not in TARGETS]
        for extras in re.findall(r"(?:lshfm|\.)\[([\w,]+)\]", line):
            wrong += [f"{at(block)}: extra {name}" for name in extras.split(",") if name not in EXTRAS]
        wrong += [f"{at(block)}: {word}" for word in words if word.endswith(".py") and not (ROOT / word).is_file()]
    assert wrong == []


@pytest.mark.parametrize("block", PYTHON, ids=at)
def test_python_compiles_and_imports_what_is_there(block: Block) -> None:
    """Every `from lshfm... import name` exists, by the text of the module."""
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("lshfm"):
            path = ROOT / str(node.module).replace(".", "/")
            module = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
            text = module.read_text()
            missing = [alias.name for alias in node.names if not re.search(rf"\b{alias.name}\b", text)]
            assert missing == [], f"{at(block)}: {node.module}"


def test_data_in_blocks_can_be_read() -> None:
    for block in BLOCKS:
        if block.info.startswith("yaml"):
            yaml.safe_load(block.text)


def test_blocks_with_a_title_are_the_files_they_name() -> None:
    """What a page shows of examples/ is what the test of the example runs."""
    titled = [(block, re.search(r'title="([^"]+)"', block.info)) for block in BLOCKS]
    shown = [(block, match[1]) for block, match in titled if match]
    assert len(shown) >= 8
    assert [at(block) for block, name in shown if (ROOT / name).read_text() != block.text] == []
    assert [name for _, name in shown if len((ROOT / name).read_text().splitlines()) > 40] == []


LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def test_links_lead_somewhere() -> None:
    """Files that are there, headings that are there."""
    broken = []
    for page in filter(Path.is_file, PAGES):
        for link in (one or other for one, other in LINK.findall(prose_of(page))):
            path, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            target = (page.parent / path).resolve() if path else page
            if not target.exists():
                broken.append(f"{page.name}: {link}")
            elif anchor and anchor not in anchors(target):
                broken.append(f"{page.name}: {link}: no such heading")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    titles = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    plain = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    made = {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in plain}
    return made | set(re.findall(r'<a id="([\w-]+)">', prose_of(page)))


def test_the_readme_is_short() -> None:
    """A stranger's minute: 150 lines, no paragraph longer than five."""
    page = ROOT / "README.md"
    assert len(page.read_text().splitlines()) <= 150
    prose = re.sub(r"^[|<].*$", "", prose_of(page), flags=re.MULTILINE)  # without tables and anchors
    assert [text for text in re.split(r"\n\s*\n", prose) if len(text.strip().splitlines()) > 5] == []


def test_every_page_is_reached_from_the_readme_or_the_index() -> None:
    linked = "".join((ROOT / name).read_text() for name in ("README.md", "docs/index.md"))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert [
        name for name in sorted(pages) if name not in linked and name not in (ROOT / "mkdocs.yml").read_text()
    ] == []


def refusals() -> list[str]:
    """All texts in the package, with … for what is filled in."""
    found = []
    for path in sorted((ROOT / "lshfm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_quoted_refusals_are_in_the_code() -> None:
    """Each text in the first column of the page's tables; … is anything."""
    rows = re.findall(r"^\| (`.+?`) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    quoted = [text for row in rows for text in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) > 30
    known = "\n".join(refusals())
    assert [text for text in quoted if not re.search(".*".join(map(re.escape, text.split("…"))), known)] == []


def test_drawings_are_what_their_script_draws() -> None:
    for name, draw in PICTURES.items():
        assert (ROOT / f"docs/pictures/{name}.svg").read_text() == draw(), f"python -m docs.made.pictures: {name}"


def test_the_tours_photos_are_what_their_script_draws() -> None:
    drawn = photos()
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(drawn)
    for name, picture in drawn.items():
        with Image.open(FOLDER / name) as there:
            assert there.tobytes() == picture.tobytes(), f"python -m docs.made.photos: {name}"


def test_pictures_are_small_and_fetch_nothing() -> None:
    for path in (ROOT / "docs/pictures").iterdir():
        assert path.stat().st_size < 300_000, path.name
        if path.suffix == ".svg":
            text = path.read_text().replace("http://www.w3.org/", "")
            assert not re.search(r"(https?:)?//\w", text), path.name


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["cff-version"], citation["version"], citation["license"]) == ("1.2.0", __version__, "Apache-2.0")
    assert citation["authors"] == [{"name": "lshfm contributors"}]
    assert citation["preferred-citation"]["doi"] == "10.1109/TPAMI.2021.3103973"


def test_forms_of_issues_can_be_read() -> None:
    forms = [yaml.safe_load(path.read_text()) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")]
    assert all(form["body"] for form in forms if "name" in form)
    assert len(forms) == 4


@pytest.mark.slow
def test_made_parts_hold_every_key_and_every_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `make docs` puts into the pages, from the schema and the recipes themselves."""
    reference, tables = config_reference(), recipe_tables()
    for command in ("train", "mimic"):
        keys = [each.name for each in key_fields(COMMANDS[command]) if each.name not in HIDDEN]
        section = reference.partition(f"## lshfm {command}\n")[2].partition("\n## ")[0]
        assert [name for name in keys if f"`{name}" not in section] == []
    assert "| `lr` | number, > 0 |" in reference
    commands = [each.command for recipe in recipes() for each in recipe.experiments]
    assert [command for command in commands if f"`{command}`" not in tables] == []
    assert "| 93.27 | – | published: 4 GPUs | – |" in tables
    measured = tmp_path / "measured.csv"
    measured.write_text(f"command,score,hardware,hours\n{commands[0]},70.1,one A100,3\n")
    monkeypatch.setattr("docs.made.recipe_tables.MEASURED", measured)
    assert "| 70.1 | one A100 | 3 |" in recipe_tables()
    assert "`learning_rate`" in spellings()


def test_a_page_of_the_site_has_its_made_parts_and_no_links_out_of_docs() -> None:
    pages = pytest.importorskip("docs.made.pages")
    assert pages.filled("a\n<!-- made: api lshfm.api.load -->\nb") == "a\n::: lshfm.api.load\nb"
    assert pages.within("[the README](../README.md#mimic) [`c`](../lshfm/c.py)") == "[the README](mimicking.md) `c`"
    markers = [name for page in PAGES for name in re.findall(r"<!-- made: (\w+)", page.read_text())]
    assert set(markers) == set(pages.PARTS)


@pytest.mark.parametrize(
    ("html", "count"),
    [
        ('<script src="https://cdn.example/x.js"></script>', 1),
        ("<link rel=stylesheet href=//fonts.example/css>", 1),
        ("<style>@import url(https://fonts.example/css)</style>", 1),
        ('<a href="https://arxiv.org">paper</a><script src="assets/x.js"></script>', 0),
    ],
)
def test_what_a_site_would_fetch_is_found(html: str, count: int, tmp_path: Path) -> None:
    pages = pytest.importorskip("docs.made.pages")
    (tmp_path / "x.html").write_text(html)
    assert len(pages.fetched(tmp_path / "x.html")) == count
