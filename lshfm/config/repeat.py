"""settings=FILE: the config.yaml of a run folder as the words that lead to its settings again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lshfm.config import CONF_DIR, schema
from lshfm.config.catalogue import group_folder, option_node, options
from lshfm.config.changes import flatten
from lshfm.config.check import is_group, key_types
from lshfm.config.compose import compose, conf_folder
from lshfm.config.keys import plain
from lshfm.config.words import folders_of, quoted, rewrite
from lshfm.errors import InputError

KEY = "settings="


def with_settings(command: str, words: Sequence[str]) -> list[str]:
    """The words with those of settings=FILE in front of them, as far as no other word says otherwise.

    Raises InputError for a file that holds no settings of this command.
    """
    files = [word.removeprefix(KEY) for word in words if word.startswith(KEY)]
    others = [word for word in words if not word.startswith(KEY)]
    if not files:
        return others
    if len(files) > 1:
        raise InputError(f"settings={files[1]}: give one file, not {len(files)}")
    typed = {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in others if "=" in word}
    folders = folders_of(words)
    saved = _read(command, files[0])
    with conf_folder(folders):
        chosen = _chosen(command, saved, folders)
        values = _changed(command, saved, chosen)
    chosen = {group: option for group, option in chosen.items() if group not in typed}
    kept = {key: value for key, value in values.items() if key not in typed and not _is_of_another(key, typed, saved)}
    return [*_words(chosen), *_words(kept), *others]


def _is_of_another(key: str, typed: Mapping[str, str], saved: Mapping[str, Any]) -> bool:
    """Whether a key belongs to an option in whose place another one was typed."""
    group = key.partition(".")[0]
    return group in typed and typed[group].strip("'\"") != str(saved["options"].get(group))


def _read(command: str, name: str) -> dict[str, Any]:
    """What the file holds. Raises InputError."""
    try:
        path = Path(name.strip("'\"")).expanduser()
        if path.is_dir():
            path = path / "config.yaml"
            if not path.is_file():
                raise InputError(f"settings={name}: this folder is no run's: it holds no config.yaml")
        config = OmegaConf.load(path)
    except (OSError, UnicodeDecodeError, YAMLError, RuntimeError) as error:  # the last: of ~USER, and no such user
        raise InputError(f"settings={name}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    saved = OmegaConf.to_container(config)
    if not isinstance(config, DictConfig) or not isinstance(saved, dict) or "epochs" not in saved:
        raise InputError(f"settings={name}: takes the config.yaml of a run folder, and this file holds no settings")
    of = "mimic" if "student" in saved else "train"
    if "projection" in saved.get("student", {}):  # a run's is the width that came of it
        saved["student"]["projection"] = saved["student"]["projection"] not in (None, False)
    if of != command:
        raise InputError(f"settings={name} are of lshfm {of}, not of lshfm {command}")
    return {str(key): value for key, value in saved.items()}


def _chosen(command: str, saved: dict[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """The options of the groups: those that the file names, in files of older versions those that fit its values."""
    groups = [name for name, hint in key_types(schema.COMMANDS[command]).items() if is_group(hint)]
    fits = {group: _option_of(group_folder(command, group), saved.get(group) or {}, folders) for group in groups}
    saved["options"] = fits | (saved.get("options") or {})
    chosen = {group: option for group, option in saved["options"].items() if option is not None}
    if (saved.get("teacher") or {}).get("path"):
        chosen["teacher"] = saved["teacher"]["path"]
    recipe = _recipe(chosen, saved)
    return chosen | ({"experiment": recipe} if recipe else {})


def _option_of(group: str, node: Mapping[str, Any], folders: Sequence[Path]) -> Any:
    """The option of a group that a node was made from; None if no file of the group builds the same."""
    if group == "loss":
        names = [name for name, value in node.items() if isinstance(value, dict) and "kind" in value]
        return names if len(names) > 1 else next(iter(names), None)
    if group == "stage":
        return node.get("name")
    found = {}
    for option in options("model" if group == "teacher" else group, folders):
        known = option_node("model" if group == "teacher" else group, option, folders)
        if known.get("_target_") == node.get("_target_") is not None:
            found[option] = sum(known.get(key) == node.get(key) for key in ("name", "arch"))
    best = max(found, key=lambda option: found[option], default=None)
    pool = node.get("pool")
    return f"{best}_{pool}" if group == "teacher" and best and pool in ("GMP", "GWP") else best


def _recipe(chosen: Mapping[str, Any], saved: Mapping[str, Any]) -> str | None:
    """The recipe that the settings are of, by what it says of itself and the options that it chooses."""
    for path in sorted((CONF_DIR / "experiment").glob("*.yaml")) if saved.get("recipe") else ():
        node: Any = OmegaConf.to_container(OmegaConf.load(path))
        made = {
            group.partition("/")[2].rpartition("@")[2]: name
            for item in node["defaults"]
            for group, name in item.items()
        }
        role = "student" if "student" in node else "model"
        same = all(chosen.get(group) == made.get(group) for group in ("dataset", role))
        if same and node["recipe"] == saved["recipe"] and node[role]["pool"] == saved[role].get("pool"):
            return path.stem
    return None


def _changed(command: str, saved: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The saved values that do not follow from the options and from each other."""
    keys: Any = schema.COMMANDS[command]
    asked = _without_default(saved)
    words = rewrite(command, _words(chosen))
    try:
        alone = flatten(plain(compose(keys, [*words, *rewrite(command, _words(asked))]).settings))
        skipped = ("published.", "recipe", "stage1", "stage2", "teacher.path", "stage.")
        differing = {
            key: value
            for key, value in flatten(saved).items()
            if (key in asked or (key in alone and alone[key] != value))
            and not key.startswith(skipped)
            and not key.endswith("_target_")
        }
        job = compose(keys, rewrite(command, [*_words(chosen), *_words(differing)]))
    except OmegaConfBaseException as error:
        raise InputError(f"settings=: they do not fit this version: {error}") from error
    return {key: value for key, value in differing.items() if key in job.changed}


def _without_default(saved: Mapping[str, Any]) -> dict[str, Any]:
    """What options may leave to be given: where the data lies, a network's name."""
    asked = {key: flatten(saved).get(key) for key in ("dataset.root", "model.arch", "student.arch", "teacher.arch")}
    return {key: value for key, value in asked.items() if value is not None}


def _words(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={as_word(value)}" for key, value in values.items() if not isinstance(value, Mapping)]


def as_word(value: Any) -> str:
    """A value as Hydra's grammar takes it."""
    if isinstance(value, list):
        return f"[{','.join(map(as_word, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return quoted(value) if isinstance(value, str) else str(value)
