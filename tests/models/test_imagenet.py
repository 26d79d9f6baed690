"""ImageNet weights: found, checked, fetched only when asked for."""

import hashlib
from pathlib import Path

import pytest
import torchvision

import lshfm.models.imagenet as module
from lshfm.errors import InputError
from lshfm.models.backbones import TORCHVISION
from lshfm.models.imagenet import find_imagenet, imagenet, resolve

PUBLISHED = {
    "resnet18-5c106cde.pth",
    "resnet34-333f7ec4.pth",
    "resnet50-19c8e357.pth",
    "resnet101-5d3b4d8f.pth",
    "mobilenet_v2-b0353104.pth",
    "vgg19_bn-c79401a0.pth",
}


def test_table_is_torchvisions_and_holds_the_published_names() -> None:
    assert set(module.FILES) == {*TORCHVISION, "vgg11", "vgg16"}
    for arch, names in module.FILES.items():
        assert torchvision.models.get_model_weights(arch).IMAGENET1K_V1.url == module.URL + names[0]
    assert {name for names in module.FILES.values() for name in names} >= PUBLISHED


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache for weights of resnet18 in two generations, and a server (a folder) with today's."""
    contents = {"today": b"new file", "older": b"old file"}
    names = {k: f"resnet18-{hashlib.sha256(v).hexdigest()[:8]}.pth" for k, v in contents.items()}
    server = tmp_path / "server"
    server.mkdir()
    (server / names["today"]).write_bytes(contents["today"])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(module, "URL", f"{server.as_uri()}/")
    monkeypatch.setitem(module.FILES, "resnet18", (names["today"], names["older"]))
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    return checkpoints


def test_either_generation_is_found(cache: Path) -> None:
    today, older = module.FILES["resnet18"]
    assert find_imagenet("resnet18") is None
    (cache / older).write_bytes(b"old file")
    assert find_imagenet("resnet18") == cache / older
    (cache / today).write_bytes(b"new file")
    assert find_imagenet("resnet18") == cache / today


def test_another_hub_folder(cache: Path, tmp_path: Path) -> None:
    name = module.FILES["resnet18"][0]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / name).write_bytes(b"new file")
    assert find_imagenet("resnet18", tmp_path / "hub") == tmp_path / "hub" / "checkpoints" / name
    assert find_imagenet("resnet18") is None


def test_damaged_file_is_named(cache: Path) -> None:
    (cache / module.FILES["resnet18"][1]).write_bytes(b"old fil")
    for look in (find_imagenet, imagenet):
        with pytest.raises(InputError, match=r"resnet18-.*\.pth is damaged .* delete it"):
            look("resnet18")


def test_download_is_checked_and_kept(cache: Path) -> None:
    path = imagenet("resnet18")
    assert path == cache / module.FILES["resnet18"][0]
    assert path.read_bytes() == b"new file"
    assert list(cache.iterdir()) == [path]


def test_cached_file_is_not_fetched_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / module.FILES["resnet18"][1]).write_bytes(b"old file")
    monkeypatch.setattr("torch.hub.download_url_to_file", None)
    assert imagenet("resnet18") == cache / module.FILES["resnet18"][1]


def test_download_with_other_content_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "server" / module.FILES["resnet18"][0]).write_bytes(b"not it")
    with pytest.raises(InputError, match="invalid hash value"):
        imagenet("resnet18")
    assert not list(cache.iterdir())


def test_failed_download_says_where_to_put_the_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9/")
    with pytest.raises(InputError) as caught:
        imagenet("resnet18")
    message = str(caught.value)
    assert "http://127.0.0.1:9/" + module.FILES["resnet18"][0] in message
    assert f"into {cache}" in message
    assert not list(cache.iterdir())


@pytest.mark.usefixtures("cache")
def test_small_networks_have_none() -> None:
    for look in (
        find_imagenet,
        imagenet,
        lambda arch: resolve("auto", arch),
        lambda arch: resolve("imagenet", arch),
    ):
        with pytest.raises(InputError, match=r"no ImageNet weights of torchvision for resnet20: .* weights=none to"):
            look("resnet20")


class TestResolve:
    def test_none(self) -> None:
        assert resolve("none", "resnet20") is None

    def test_imagenet_downloads(self, cache: Path) -> None:
        assert resolve("imagenet", "resnet18") == cache / module.FILES["resnet18"][0]

    def test_auto_takes_the_cached_file(self, cache: Path) -> None:
        (cache / module.FILES["resnet18"][1]).write_bytes(b"old file")
        assert resolve("auto", "resnet18") == cache / module.FILES["resnet18"][1]

    def test_auto_never_downloads_and_names_the_choices(self, cache: Path) -> None:
        with pytest.raises(InputError) as caught:
            resolve("auto", "resnet18")
        assert all(f"\n  weights={choice} " in str(caught.value) for choice in ("imagenet", "PATH", "none"))
        assert not list(cache.iterdir())

    def test_path_under_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "w.pth").touch()
        monkeypatch.setenv("HOME", str(tmp_path))
        assert resolve("~/w.pth", "resnet20") == tmp_path / "w.pth"

    @pytest.mark.parametrize(
        ("weights", "hint"),
        [
            ("imagnet", r" \(did you mean 'imagenet'\?\)"),
            ("None", r" \(did you mean 'none'\?\)"),
            ("a/b.pth", ""),
        ],
    )
    def test_no_such_file(self, weights: str, hint: str) -> None:
        with pytest.raises(InputError, match=f"^weights={weights}: no such file{hint}; give a file"):
            resolve(weights, "resnet18")
