"""python -m lshfm."""

import sys

from lshfm.cli import main

sys.exit(main())
