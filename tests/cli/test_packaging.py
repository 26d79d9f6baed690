"""The wheel and the source distribution: each installed in an environment of its own, used from another folder."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both; the wheel is made from the source distribution, which so has all that it takes."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_what_is_in_them(built: Path) -> None:
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (metadata,) = (HeaderParser().parsestr(file.read(n).decode()) for n in names if n.endswith("/METADATA"))
    assert {"lshfm/py.typed", "lshfm/conf/train.yaml", "lshfm/report/html/page.html"} <= names
    assert not [name for name in names if not name.startswith("lshfm")]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "# lshfm" in str(metadata.get_payload())
    with tarfile.open(source) as file:
        inside = {name.partition("/")[2] for name in file.getnames()}
    pages = {
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "Makefile",
        "mkdocs.yml",
        "docs/index.md",
        "examples/own/own_loss.py",
    }
    assert pages <= inside
    assert not [name for name in inside if name.startswith((".venv", "outputs", "checkpoints", "site/"))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_they_install_and_run_from_an_empty_folder(kind: str, built: Path, tmp_path: Path) -> None:
    (package,) = built.glob(kind)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    # The dependencies are those of this environment, behind the package's own folder; the checkout's lshfm is not.
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "lshfm" not in entry.name.lower() and not entry.name.startswith("_editable"):
            (packages / entry.name).symlink_to(entry)
    (site / "dependencies.pth").write_text(str(packages))
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", str(package)]
    subprocess.run(install, check=True)
    lshfm = tmp_path / "venv" / "bin" / "lshfm"
    away = tmp_path / "away"
    away.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"LSHFM_CACHE": str(tmp_path / "stores")}

    def run(*words: str) -> str:
        ended = subprocess.run([lshfm, *words], cwd=away, env=environment, capture_output=True, text=True, check=True)
        return ended.stdout

    assert "resnet20" in run("train", "--cfg", "job")
    located = [python, "-c", "import lshfm; print(lshfm.__file__)"]
    place = subprocess.run(located, cwd=away, env=environment, capture_output=True, text=True, check=True).stdout
    assert str(site) in place
    if kind == "*.whl":  # the same files came out of both
        run("train", "model=resnet8", "dataset.num_train=64", "dataset.num_eval=32", "epochs=1", "name=a")
        assert (away / "checkpoints" / "a.ckpt").is_file()
