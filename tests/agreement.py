"""Training and `lshfm check` say the same of a data set."""

from lshfm.datasets.annotations import UNLABELLED, Fault, Grade
from lshfm.datasets.reader import Reader
from lshfm.errors import InputError


def require_agreement(source: Reader, name: str) -> None:
    """What training refuses, the check lists; what it lists as a reason to refuse, training refuses."""
    try:
        source.split(name)
        refusal = ""
    except InputError as error:
        refusal = str(error)
        assert refusal
    faults: list[Fault] = []
    try:
        source.annotations(name, faults.append)
    except InputError as error:  # there is no such split
        assert str(error) == refusal  # noqa: PT017
        return
    stopping = [fault for fault in faults if fault.grade is Grade.STOPS]
    if stopping:
        assert refusal == f"{stopping[0].where}: {stopping[0].what}"
    else:
        assert bool(refusal) == any(fault.kind == UNLABELLED for fault in faults)
