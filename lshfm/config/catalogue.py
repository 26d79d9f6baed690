"""The groups and options of conf/ and of --config-dir, and what an option holds, read without a running Hydra."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lshfm.config import CONF_DIR, resolvers, schema  # noqa: F401 - resolvers: so that they are there
from lshfm.config.changes import fill_in, flatten
from lshfm.config.check import group_of, key_types
from lshfm.config.groups import POOLINGS, Dataset, LabelLoss, Network, without_pooling
from lshfm.config.guards import check_files
from lshfm.config.keys import without_code
from lshfm.errors import InputError, nearest

_PARTS = re.compile(r"(\D*)(\d*)")
_DEEPEST = 10  # levels of defaults lists that are followed
# Keys whose options lie in a group of another name: key -> group, a folder of conf/.
_FOLDERS = {"student": "model"}
_OF_TRAIN = {"loss": "label_loss"}
# Published spellings that differ in capitals alone for different networks: (CIFAR's, ImageNet's).
_NAMED_TWICE = {
    "ResNet50": ("cifar_resnet50", "resnet50"),
    **dict.fromkeys(("MobileNetV2", "mobilenetv2"), ("cifar_mobilenet_v2", "mobilenet_v2")),
}

# Hydra copies the store, hundreds of teachers in it, for each composition: a third of the time, for nothing, since all
# that is loaded from it is copied too.
ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]


def group_folder(command: str, role: str) -> str:
    """The group, a folder of conf/, that a command's key takes its options from."""
    of_train = _OF_TRAIN if command == "train" else {}
    return (_FOLDERS | of_train).get(role, role)


def filled_from_elsewhere(command: str) -> dict[str, str]:
    """The keys of a command that Hydra spells GROUP@KEY, with that spelling: student -> model@student."""
    of_train = _OF_TRAIN if command == "train" else {}
    return {role: f"{group}@{role}" for role, group in (_FOLDERS | of_train).items()}


def options(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """The options of a group: those of conf/ and of `folders`, and within a running command of --config-dir."""
    if GlobalHydra.instance().is_initialized():
        return sorted(GlobalHydra.instance().config_loader().get_group_options(group))
    return sorted({path.stem for folder in (CONF_DIR, *folders) for path in (folder / group).glob("*.yaml")})


def in_order(names: Iterable[str]) -> list[str]:
    """Names as people list them: resnet8 before resnet110."""
    return sorted(names, key=lambda name: [(text, int(number or 0)) for text, number in _PARTS.findall(name)])


def groups(command: str) -> list[str]:
    """The groups a command chooses from, in the order of its defaults list."""
    defaults = OmegaConf.to_container(OmegaConf.load(CONF_DIR / f"{command}.yaml"))["defaults"]  # type: ignore[index,call-overload]
    names = [next(iter(item)).rpartition("@")[2] for item in defaults if isinstance(item, dict)]
    keys = key_types(schema.COMMANDS[command]).keys() | {"experiment"}
    return [name for name in names if name in keys]


def register_teachers(folders: Iterable[Path] = ()) -> None:
    """Make the networks of conf/model and of `folders`/model known as teachers. Raises InputError as `check_files`."""
    folders = list(folders)
    check_files(folders)
    store = ConfigStore.instance()
    for folder in (CONF_DIR, *folders):
        for path in sorted((folder / "model").glob("*.yaml")):
            if is_teacher(path.stem):  # the entry says nothing but the name
                continue
            network = {"defaults": [{"/model@_here_": path.stem}, "_self_"], "path": None}
            store.store(group="teacher", name=path.stem, node=network)
            for pool in POOLINGS:
                store.store(group="teacher", name=f"{path.stem}_{pool}", node=network | {"pool": pool})


def is_teacher(option: str) -> bool:
    """Whether the group teacher has this option; `register_teachers` comes first."""
    return f"{option}.yaml" in ConfigStore.instance().repo.get("teacher", {}) or option == "checkpoint"


def network_of(option: str, saved: Mapping[str, Any], folders: Sequence[Path] = ()) -> Network:
    """The settings of an option of the group model, with `saved` values in place of its file's and weights "none".

    Raises InputError for an unknown option, and for one whose file needs keys of other files.
    """
    none = {"weights": "none"}
    return group_of(Network, _filled("model", option, {**saved, **none}, folders) | none, option)


def label_loss_of(option: str, saved: Mapping[str, Any], folders: Sequence[Path] = ()) -> LabelLoss:
    """The settings of an option of the group label_loss, with `saved` values in place of its file's.

    Raises InputError as `network_of` does.
    """
    return group_of(LabelLoss, _filled("label_loss", option, saved, folders), option)


def dataset_of(option: str, saved: Mapping[str, Any], folders: Sequence[Path] = ()) -> Dataset:
    """The settings of an option of the group dataset, with `saved` values in place of its file's.

    Raises InputError as `network_of` does.
    """
    return group_of(Dataset, _filled("dataset", option, without_code(saved), folders), option)


def _filled(group: str, option: str, saved: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """What an option's file holds by itself, with saved values for the keys that it has."""
    config = OmegaConf.create({group: _node(group, option, folders)})
    fill_in(config, flatten(saved, f"{group}."), typed=set())
    try:
        node = OmegaConf.to_container(config[group], resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise InputError(f"{group}={option}: its file cannot be read by itself: {error}") from error
    assert isinstance(node, dict)
    return {"name": option} | {str(name): value for name, value in node.items()}


def starts_from_imagenet(option: str, preset: Mapping[str, Any], folders: Sequence[Path] = ()) -> bool:
    """Whether a network of the group model starts from ImageNet's weights where nobody says otherwise.

    preset: of the data set, which most networks leave the choice to.
    """
    node = OmegaConf.create({"model": _node("model", option, folders), "dataset": {"preset": dict(preset)}})
    try:
        return OmegaConf.select(node, "model.weights") in ("auto", "imagenet")
    except OmegaConfBaseException:  # the network's file asks for what is not here
        return False


def named_twice(role: str, option: str) -> str | None:
    """A message for a spelling that the published code has for two networks; None for others."""
    both = _NAMED_TWICE.get(without_pooling(option))
    if both is None:
        return None
    names = " and ".join(f"{role}={name} is {of}'s" for name, of in zip(both, ("CIFAR", "ImageNet"), strict=True))
    return f"{role}={option}: two published networks are called so but for capitals: {names}"


def task_node(option: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """The node of an option of the group task: `_target_` and its arguments. Raises InputError for an unknown one."""
    node = OmegaConf.to_container(_node("task", option, folders), resolve=True)
    assert isinstance(node, dict)
    return {str(name): value for name, value in node.items()}


def option_node(group: str, option: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """What an option's file holds, with those that it takes in, interpolations as they are. Raises InputError."""
    node = OmegaConf.to_container(_node(group, option, folders))
    assert isinstance(node, dict)
    return {str(name): value for name, value in node.items()}


def comments(group: str, option: str, folders: Sequence[Path] = ()) -> dict[str, str]:
    """What an option's file says of its keys, in comments behind them; of what it takes in, what that file says."""
    found: dict[str, str] = {}
    path = next((p for p in (f / group / f"{option}.yaml" for f in (*folders, CONF_DIR)) if p.is_file()), None)
    if path is None:
        return found
    text = path.read_text(encoding="utf-8")
    node = yaml.safe_load(text)
    for entry in node.get("defaults", []) if isinstance(node, dict) else []:
        base = _base(group, entry)
        found |= comments(*base, folders) if base and base != (group, option) else {}
    return found | dict(re.findall(r"^(\w+):[^#\n]*[ \t]#[ \t]+(.+)$", text, re.MULTILINE))


def loss_kind(option: str) -> str | None:
    """The kind of a loss: label, feature, logit or one of the two last; None for other names."""
    if option in options("label_loss"):
        return "label"
    if option not in options("loss"):
        return None
    try:
        return str(_node("loss", option, ())[option].kind)
    except (InputError, OmegaConfBaseException):  # of the user's own, made in another way
        return "feature or logit"


def _node(group: str, option: str, folders: Sequence[Path], depth: int = 0) -> DictConfig:
    """An option's file, merged with those that its defaults list puts in the same place. Raises InputError."""
    paths = [folder / group / f"{option}.yaml" for folder in (*folders, CONF_DIR)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None or depth > _DEEPEST:
        known = options(group, folders)
        raise InputError(f"{group}={option}: no such {group}{nearest(option, known)}. There are: {', '.join(known)}")
    try:
        node = OmegaConf.load(path)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not isinstance(node, DictConfig):
        raise InputError(f"{path}: must hold keys, as KEY: value")
    entries = list(node.pop("defaults", []))
    order = entries if "_self_" in entries else [*entries, "_self_"]
    parts = []
    for entry in order:
        if entry == "_self_":
            parts.append(node)
        elif base := _base(group, entry):
            parts.append(_node(*base, folders, depth + 1))
    merged = OmegaConf.merge(*parts)
    assert isinstance(merged, DictConfig)
    return merged


def _base(group: str, entry: Any) -> tuple[str, str] | None:
    """The group and option that an entry of a defaults list merges into the option's own node; None for others."""
    name, option = next(iter(entry.items())) if isinstance(entry, Mapping) else (str(entry), None)
    path, _, package = str(name).partition("@")
    if path == "_self_" or path.startswith("override ") or package not in ("", "_here_"):
        return None
    if option is not None:
        return path.removeprefix("/"), str(option)
    if not path.startswith("/"):
        return group, path
    folder, _, option = path.removeprefix("/").rpartition("/")
    return folder, option
