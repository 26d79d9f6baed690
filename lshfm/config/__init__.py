"""Settings: composed by Hydra from conf/ and the command line, checked, and handed on as dataclasses of plain values.

With cli.py this is the only room that knows Hydra and OmegaConf.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]

# A wheel carries conf/ inside the package, a checkout has it beside the package.
CONF_DIR = next(d for d in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if (d / "train.yaml").is_file())
