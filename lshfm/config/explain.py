"""Errors of Hydra and its launchers, reworded as InputError or RunFailed with the nearest right name."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
import yaml
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf

from lshfm.config.catalogue import group_folder, groups, in_order, loss_kind, named_twice, options
from lshfm.config.changes import flatten
from lshfm.config.compose import hydra_ready
from lshfm.config.slips import bare_word, is_folder, own_images, synonym, timm_hint
from lshfm.config.words import folders_of
from lshfm.errors import InputError, RunFailed, nearest, printable

FEW = 15  # options that are all named beside the one most like what was typed


def explain(command: str, error: Exception) -> InputError:
    """An error of Hydra's as an InputError that names key or option, with the nearest right name."""
    text = "\n".join(str(e) for e in (error, error.__cause__) if e is not None)
    if "'hydra/launcher/submitit" in text:
        return InputError("SLURM's launcher is an extra: pip install 'lshfm[slurm]'")
    if match := re.search(r"Could not (?:find|load) '((?:hydra/)?[\w@]+)/([^']*)'", text):
        group, option = match.groups()
        pairs = (word.partition("=") for word in sys.argv)
        typed = (key.rpartition("@")[2] for key, _, value in pairs if value.strip("'\"") == option)
        role = next(typed, group)
        return _no_option(command, role, option)
    if match := re.search(r"Could not override '([^']+)'|Error merging override \+*([\w.@/]+)=", text):
        name = (match.group(1) or match.group(2)).rpartition("@")[2]
        if name.startswith("hydra."):
            return InputError(f"{name}: no such key of Hydra's. See lshfm {command} --cfg hydra")
        if clause := synonym(command, name):
            return InputError(f"{name}: no such key or group; {clause}. See lshfm {command} --help")
        known = _all_keys(command, sys.argv[1:])
        if name in known:
            return InputError(f"{name}: no key of what is chosen beside it. See lshfm {command} --help")
        return InputError(f"{name}: no such key or group{nearest(name, known)}. See lshfm {command} --help")
    if "Config group override" in text:
        return InputError(f"{'=, '.join(groups(command))}= each take an option's name; one is given something else")
    if isinstance(error, OverrideParseException):
        meant = bare_word(command, str(error.override))
        return InputError(f"cannot read {error.override!r}: an argument is GROUP=OPTION or KEY=VALUE{meant}")
    if "Ambiguous value" in text:
        return InputError(f"several values for one key make a sweep, which takes -m: {text.splitlines()[0]}")
    if match := re.search(r"node `([\w.]+)` is not a container", text):
        return InputError(f"{match[1]}: must be keys, as {match[1]}.KEY=...")
    if isinstance(error, yaml.YAMLError):
        return InputError(f"a YAML file cannot be read: {' '.join(text.split())}")
    lines = [line for line in text.splitlines() if line and "object_type" not in line and "full_key" not in line]
    return InputError(lines[0] if lines else type(error).__name__)


def _no_option(command: str, role: str, option: str) -> InputError:
    known = in_order(options(group_folder(command, role)))
    if role in ("loss", "label_loss") and (kind := loss_kind(option)):
        takes = "label" if group_folder(command, role) == "label_loss" else "feature or logit"
        return InputError(f"{role}={option} is a {kind} loss; lshfm {command} takes a {takes} loss as {role}")
    if option.startswith("["):
        return InputError(f"{role}={option}: the bracket is not closed; one name needs none")
    if group_folder(command, role) == "model" and (which := named_twice(role, option)):
        return InputError(which)
    near, hint = nearest(option, known), timm_hint(command, role, option)
    if role == "dataset" and is_folder(option):
        near, hint = "", f" {own_images(option)}."
    is_long = near and len(known) > FEW
    there = f"lshfm {command} --help lists all" if is_long else f"There are: {', '.join(known)}"
    return InputError(f"{role}={printable(option)}: no such {role}{near}.{hint} {there}")


def _all_keys(command: str, words: Sequence[str]) -> list[str]:
    """Groups and keys of a command, with the options that `words` choose."""
    plain = [word for word in words if re.fullmatch(r"[\w@]+='?[\w.-]+'?", word)]  # GROUP=OPTION alone
    chosen = [word for word in plain if word.partition("=")[0].rpartition("@")[2] in groups(command)]
    with hydra_ready(folders_of(words)):
        try:
            config = hydra.compose(command, chosen)
        except HydraException:  # of a sweep's command line, whose words are not yet a job's
            config = hydra.compose(command)
    return groups(command) + list(flatten(OmegaConf.to_container(config)))  # type: ignore[arg-type]


def not_launched(error: RuntimeError) -> RunFailed:
    """The error for a job that submitit could not submit or that failed, with the job's own message if there is one."""
    match = re.search(r"(?:with path|-) (/.+)_\d+_(?:result\.pkl|log\.out)", str(error))
    if not match:
        return RunFailed(f"no job was submitted: {error}")
    job = Path(match[1])
    logs = (log.read_text(errors="replace") for log in sorted(job.parent.glob(f"{job.name}_*_log.out")))
    messages = re.findall(r"^lshfm: error: (.+)", "\n".join(logs), re.MULTILINE)
    state = re.search(r"state: ([^)]+)\)", str(error))
    return RunFailed(
        f"job {job.name} ended{f' as {state[1]}' if state else ''}{f': {messages[-1]}' if messages else ''}. "
        f"See {job}_*_log.out; other jobs of the sweep go on."
    )
