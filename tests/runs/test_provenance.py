"""The revision of a checkout and the memory of a process, as records tell them."""

import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lshfm.runs import provenance
from lshfm.runs.provenance import peak_memory, revision


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
class TestRevision:
    def git(self, folder: Path, *words: str) -> str:
        who = {f"GIT_{role}_{what}": "nobody" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | who
        done = subprocess.run(["git", *words], cwd=folder, env=own, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Path:
        folder = tmp_path / "checkout"
        folder.mkdir()
        self.git(folder, "init", "--quiet")
        (folder / "file").write_text("one\n")
        self.git(folder, "add", "file")
        self.git(folder, "commit", "--quiet", "--no-gpg-sign", "-m", "first")
        self.git(folder, "tag", "v1")
        return folder

    def test_of_a_checkout(self, checkout: Path) -> None:
        commit = self.git(checkout, "rev-parse", "HEAD")
        assert len(commit) == 40
        assert revision(checkout) == commit
        (checkout / "file").write_text("another\n")
        assert revision(checkout) == f"{commit}-dirty"

    def test_of_a_worktree(self, checkout: Path) -> None:
        self.git(checkout, "worktree", "add", "--quiet", "--detach", "../other")
        assert revision(checkout.parent / "other") == self.git(checkout, "rev-parse", "HEAD")

    def test_within_a_hook_of_another_repository(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GIT_DIR", str(checkout.parent))
        assert revision(checkout) == self.git(checkout, "rev-parse", "HEAD")

    def test_none_of_a_package_that_is_installed_within_one(self, checkout: Path) -> None:
        (checkout / "site-packages").mkdir()
        assert revision(checkout / "site-packages") is None

    def test_none_before_the_first_commit(self, tmp_path: Path) -> None:
        self.git(tmp_path, "init", "--quiet")
        assert revision(tmp_path) is None


def test_no_revision_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision(tmp_path) is None


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**10), ("darwin", 2**20)])
def test_peak_memory(monkeypatch: pytest.MonkeyPatch, platform: str, unit: int) -> None:
    monkeypatch.setattr(provenance.sys, "platform", platform)
    monkeypatch.setattr(provenance.resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=300 * unit + 7))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: (40 + device.index) * 2**20 + 5)
    assert peak_memory(torch.device("cpu")) == {"host_MiB": 300, "gpu_MiB": None}
    assert peak_memory(torch.device("cuda", 2)) == {"host_MiB": 300, "gpu_MiB": 42}


def test_peak_memory_here() -> None:
    before = peak_memory(torch.device("cpu"))["host_MiB"]
    held = bytearray(b"1") * (64 * 2**20)
    after = peak_memory(torch.device("cpu"))["host_MiB"]
    assert before is not None
    assert after is not None
    assert 0 < before <= after < 2**20
    assert after >= len(held) // 2**20
