"""Fixtures every room shares."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests import processes

pytest_plugins = ["tests.jobs"]

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two workers' thread pools on two cores block each other


# A busy machine is no failure, and what CI tries does not change by itself.
settings.register_profile("lshfm", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("lshfm")


def pytest_sessionfinish() -> None:
    """Whoever measures the tests measures the commands too."""
    processes.end_server()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images and weights: LSHFM_TEST_DATA, else ../shared/data beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LSHFM_TEST_DATA", default))
    if not (folder / "VOCdevkit").is_dir():
        pytest.skip(f"no real data at {folder}: set LSHFM_TEST_DATA")
    return folder
