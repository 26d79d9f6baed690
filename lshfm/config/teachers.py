"""The group `teacher`: every option of `model`, by itself and with each pooling as a suffix (resnet101_GMP)."""

from collections.abc import Iterable
from pathlib import Path

from hydra.core.config_store import ConfigStore

from lshfm.config import CONF_DIR
from lshfm.config.guards import check_files

POOLINGS = ("GAP", "GMP", "GWP")


def register_teachers(folders: Iterable[Path] = ()) -> None:
    """Make the networks of conf/model and of `folders`/model known as teachers. Raises InputError as `check_files`."""
    folders = list(folders)
    check_files(folders)
    store = ConfigStore.instance()
    for folder in (CONF_DIR, *folders):
        for path in sorted((folder / "model").glob("*.yaml")):
            network = {"defaults": [{"/model@_here_": path.stem}, "_self_"], "path": None}
            store.store(group="teacher", name=path.stem, node=network)
            for pool in POOLINGS:
                store.store(group="teacher", name=f"{path.stem}_{pool}", node=network | {"pool": pool})


def without_pooling(option: str) -> str:
    """The option of `model` that an option of `teacher` is made from."""
    return option.rpartition("_")[0] if option.endswith(tuple(f"_{pool}" for pool in POOLINGS)) else option


def is_teacher(option: str) -> bool:
    """Whether the group has this option; only once the networks are registered."""
    return f"{option}.yaml" in ConfigStore.instance().repo.get("teacher", {}) or option == "checkpoint"
