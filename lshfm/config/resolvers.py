"""What the YAML of conf/ asks for by name: ${NAME:...}."""

from omegaconf import DictConfig, OmegaConf

from lshfm.config.build import build

ONE_LABEL = "lshfm.datasets.one_label.has_one_label"


def by_speed(speed: str, exact: object, fast: object) -> object:
    """One of two values, as `speed` says."""
    return fast if speed == "fast" else exact


def task_of_manifest(*, _parent_: DictConfig) -> str:
    """singlelabel for a manifest whose training split has a column `label` with one label a row, else multilabel."""
    if OmegaConf.is_missing(_parent_, "root") or _parent_.get("root") is None:
        return "multilabel"
    names = [str(_parent_.get(key)) for key in ("train_split", "eval_split")]
    separator = _parent_.get("label_separator")
    asked = {"root": str(_parent_.root), "names": names, "separator": separator and str(separator)}
    return "singlelabel" if build({"_target_": ONE_LABEL} | asked) else "multilabel"


OmegaConf.register_new_resolver("by_speed", by_speed, replace=True)
OmegaConf.register_new_resolver("times", lambda factor, number: factor * number, replace=True)
OmegaConf.register_new_resolver("task_of_manifest", task_of_manifest, replace=True)
