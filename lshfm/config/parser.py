"""Hydra's parser of the command line, under every Python."""

import sys
from argparse import ArgumentParser

from hydra._internal.utils import get_args_parser


def args_parser() -> ArgumentParser:
    """Hydra's own parser; it is built without the check of help texts that Python 3.14 began.

    One of Hydra's texts is an object that becomes a text when it is shown, which the check takes for a malformed one.
    """
    ArgumentParser._check_help = lambda *_: None  # type: ignore[attr-defined]
    try:
        return get_args_parser()
    finally:
        del ArgumentParser._check_help  # type: ignore[attr-defined] # the check lies in a class that it is made from


vars(sys.modules["hydra.main"])["get_args_parser"] = args_parser  # which hydra.main() calls by this name
