"""Which keys can change a number."""

from itertools import chain

import pytest

from lshfm.config.changes import changes_results, flatten
from lshfm.config.compose import compose, conf_folder
from lshfm.config.keys import plain
from lshfm.config.schema import Train

DATASETS = ["voc2007", "coco", "coco2014", "manifest"]


def test_flatten() -> None:
    values = {"a": {"b": {"c": 1}, "d": []}, "e": {}, "f": None}
    assert flatten(values) == {"a.b.c": 1, "a.d": [], "e": {}, "f": None}


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        *((key, True) for key in ("lr", "epochs", "seed", "precision", "schedule.steps", "augment.flip", "freeze")),
        *(
            (key, True)
            for key in ("dataset.size", "dataset.holdout", "dataset.skip_broken", "dataset.own", "model.pool")
        ),
        *((key, True) for key in ("loss.gamma_neg", "model.weights", "select", "ema", "channels_last", "unheard_of")),
        *(
            (key, False)
            for key in (
                "gpus",
                "workers",
                "output_dir",
                "checkpoint_dir",
                "name",
                "overwrite",
                "log_every",
                "keep_last",
            )
        ),
        *((key, False) for key in ("ranks", "eval_batch_size", "allow_test", "checkpoint_minutes")),
        *(
            (key, False)
            for key in ("dataset.root", "dataset.cache", "dataset.cache_dir", "dataset.name", "dataset.devkit")
        ),
        *(
            (key, False)
            for key in ("model.name", "loss.name", "model._target_", "dataset.preset.lr", "recipe.hardware")
        ),
    ],
)
def test_what_can_change_a_number(key: str, changes: bool) -> None:
    assert changes_results("train", key) is changes


def test_every_key_of_a_job_is_known_to_change_results_or_not() -> None:
    with conf_folder():
        jobs = [compose(Train, [f"dataset={name}", "dataset.root=x"]) for name in DATASETS]
    keys = chain.from_iterable(flatten(plain(job.settings)) for job in jobs)
    assert {type(changes_results("train", key)) for key in keys} == {bool}


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        *(
            (key, True)
            for key in ("loss.beta", "loss.hash_num", "student.projection", "teacher.pool", "loss.l2.weight")
        ),
        *((key, False) for key in ("published.1.l2.beta", "stage.name", "stage1.lr", "recipe.note", "student.name")),
    ],
)
def test_what_can_change_a_number_of_mimic(key: str, changes: bool) -> None:
    assert changes_results("mimic", key) is changes
