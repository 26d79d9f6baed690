"""The wheel: installed in an environment of its own, used from another folder."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_wheel_brings_its_configuration_along(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    # The dependencies are those of this environment, behind the wheel's own folder; the checkout's lshfm is not.
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "lshfm" not in entry.name.lower() and not entry.name.startswith("_editable"):
            (packages / entry.name).symlink_to(entry)
    (site / "dependencies.pth").write_text(str(packages))
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
    run("train", "model=resnet8", "dataset.num_train=64", "dataset.num_eval=32", "epochs=1", "name=a")
    assert (away / "checkpoints" / "a.ckpt").is_file()
