"""Where a run and its checkpoint go, and what lies there already."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lshfm.config.compose import Job, changes_results, flatten
from lshfm.console import logger, shown
from lshfm.datasets.split import Split
from lshfm.errors import InputError
from lshfm.files.read import sha256
from lshfm.files.write import require_writable
from lshfm.ranks.group import on_main, require_same
from lshfm.runs.checkpoint import unpack
from lshfm.runs.folder import RunFolder, Status, differing_keys


@dataclass(frozen=True)
class Claim:
    """A run's place: its folder, its checkpoint's path, and all that can change its numbers."""

    folder: RunFolder
    checkpoint: Path
    identity: dict[str, Any]
    overwrite: bool

    @classmethod
    def of(cls, values: Mapping[str, Any], command: str, name: str, identity: Mapping[str, Any]) -> Self:
        """The place of the run called `name`, the same for all ranks.

        Raises InputError if it cannot be written to, and RunFailed if the ranks see different data.
        """
        require_same(f"the settings or the data of {name}", identity)
        folder = Path(values["output_dir"]).expanduser() / command / name
        checkpoint = Path(values["checkpoint_dir"]).expanduser() / f"{name}.ckpt"
        on_main(lambda: require_writable(folder, "output_dir"))
        on_main(lambda: require_writable(checkpoint.parent, "checkpoint_dir"))
        return cls(RunFolder(folder), checkpoint, dict(identity), values["overwrite"])

    def is_finished(self) -> bool:
        """Whether there is nothing left to do, which the log then says; for rank 0 to ask.

        Raises InputError where another run is in the way.
        """
        status = self.folder.examine(self.identity, overwrite=self.overwrite)
        if status is Status.NEW:
            self._require_room()
            return False
        self.require_own()
        if status is Status.FINISHED and self.checkpoint.exists():
            self._say_finished()
            return True
        self.folder.results.unlink(missing_ok=True)  # the checkpoint was taken away: finish once more, from last.ckpt
        return False

    def _say_finished(self) -> None:
        try:
            results = json.loads(self.folder.results.read_text())
            metric, score = str(results["metric"]), shown(results["score"])
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{self.folder.results} is damaged: delete it, and the same command writes it anew"
            ) from error
        logger.info(
            "%s is finished: %s %s; its checkpoint is %s. Nothing to do; overwrite=true trains it again.",
            self.folder.path, metric, score, self.checkpoint,
        )  # fmt: skip

    def require_own(self) -> None:
        """Refuse to replace another run's checkpoint, unless asked; the run that wrote one may write it again.

        Raises InputError.
        """
        if self.checkpoint.exists() and not self.overwrite:
            there = unpack(self.checkpoint, whole=False).get("identity")
            if not isinstance(there, dict) or differing_keys(there, self.identity):
                self._require_room()

    def _require_room(self) -> None:
        if self.checkpoint.exists() and not self.overwrite:
            raise InputError(
                f"{self.checkpoint} is there already, from another run: name=NAME or checkpoint_dir=DIR keeps both, "
                "overwrite=true replaces it"
            )


def settings_identity(command: str, job: Job, train: Split, test: Split) -> dict[str, Any]:
    """All settings that can change a number, under dotted keys, the options of the groups, and the data."""
    identity = {key: value for key, value in flatten(job.values).items() if changes_results(command, key)}
    identity |= {group: job.choices[group] for group in job.choices if group in job.values}
    return identity | {"data.train": train.fingerprint(), "data.eval": test.fingerprint()}


def weights_identity(weights: Any) -> Any:
    """Starting weights by what they are: a file by its content; auto either means imagenet or stops."""
    path = Path(str(weights)).expanduser()
    return "imagenet" if weights == "auto" else sha256(path) if path.is_file() else weights
