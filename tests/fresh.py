"""What a process of its own would not know: options that an earlier test of the same process has made known."""

from hydra.core.config_store import ConfigStore

from lshfm.config import CONF_DIR
from lshfm.config.groups import POOLINGS

STEMS = [path.stem for path in (CONF_DIR / "model").glob("*.yaml")]
TEACHERS = {f"{stem}{ending}.yaml" for stem in STEMS for ending in ("", *(f"_{pool}" for pool in POOLINGS))}


def forget_own_teachers() -> None:
    """As teachers, networks of other folders than conf/, which might be called as a page or a test calls a run."""
    teachers = ConfigStore.instance().repo.get("teacher", {})
    for name in teachers.keys() - TEACHERS:
        del teachers[name]
