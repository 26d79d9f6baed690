"""lshfm: distil image models by mimicking features with locality-sensitive hashing (arXiv 2011.01424)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lshfm.api import eval, load, mimic, train
    from lshfm.errors import InputError, LshfmError, RunFailed

__version__ = "0.1.0"
__all__ = ["InputError", "LshfmError", "RunFailed", "__version__", "eval", "load", "mimic", "train"]


def __getattr__(name: str) -> Any:
    """What is imported once it is asked for: the command line starts without it."""
    if name not in __all__:
        raise AttributeError(f"module 'lshfm' has no attribute {name!r}")
    if name in ("InputError", "LshfmError", "RunFailed"):
        from lshfm import errors

        return getattr(errors, name)
    from lshfm import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
