"""The program of a rank that ranks.launch starts: python worker.py FOLDER, with its work pickled in FOLDER/work."""

import os
import pickle
import sys
from pathlib import Path

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / f"{os.getpid()}.pid").touch()
    with (folder / "work").open("rb") as file:  # the parent's own, in a folder that nobody else can write to
        sys.path[:] = pickle.load(file)
        parent, work, arguments = pickle.load(file)

    from lshfm.ranks import launch

    launch.do_as_rank(folder, parent, work, arguments)
