"""What errors carry, and what messages call the parameters that they are about."""

import pickle

import pytest

from lshfm.datasets.split import BrokenImage
from lshfm.errors import InputError, LshfmError, RunFailed, at, option, parameter
from lshfm.ranks.group import PeerLost


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (InputError("x"), 2, False),
        (BrokenImage("x", "y"), 2, False),
        (RunFailed("x"), 1, False),
        (PeerLost("x"), 1, True),
    ],
)
def test_what_an_error_carries(error: LshfmError, code: int, shown: bool) -> None:
    assert (error.code, error.shown, error.of_all) == (code, shown, False)


@pytest.mark.parametrize("error", [InputError("x"), BrokenImage("x", "y"), RunFailed("x")])
def test_another_process_is_told_all_of_it(error: LshfmError) -> None:
    error.shown = error.of_all = True
    there = pickle.loads(pickle.dumps(error))
    assert (type(there), str(there), there.shown, there.of_all) == (type(error), str(error), True, True)
    assert not type(error)("a", *error.args[1:]).shown  # another one


def test_a_parameter_has_its_own_name() -> None:
    assert (parameter("root"), option("arch")) == ("root", "arch")


def test_within_a_group_a_parameter_is_a_key_of_it() -> None:
    with at("dataset"):
        assert parameter("root") == "dataset.root"
        with at("student"):
            assert (parameter("pool"), option("arch")) == ("student.pool", "student")
        with at(""):
            assert parameter("lr") == "lr"
        assert parameter("root") == "dataset.root"
    assert parameter("root") == "root"


def test_a_group_ends_with_an_error() -> None:
    with pytest.raises(InputError, match=r"^loss\.std$"), at("loss"):
        raise InputError(parameter("std"))
    assert parameter("std") == "std"
