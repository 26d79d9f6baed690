"""Libraries of the extra `export`, imported where they are used."""

import sys
from types import ModuleType

from lshfm.errors import InputError


def library(name: str) -> ModuleType:
    """onnx, onnxruntime, onnxscript or safetensors. Raises InputError naming the command that installs it."""
    try:
        if name == "safetensors":
            import safetensors  # noqa: F401
        elif name == "onnxruntime":
            import onnxruntime  # noqa: F401
        elif name == "onnxscript":
            import onnxscript  # noqa: F401
        else:
            import onnx  # noqa: F401
    except ImportError as error:
        raise InputError(f"this needs {name} ({error}): pip install 'lshfm[export]'") from error
    return sys.modules[name]
