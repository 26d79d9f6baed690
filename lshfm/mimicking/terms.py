"""The chosen losses of mimicking as weighted terms."""

from lshfm.config.build import build
from lshfm.config.groups import MimicLoss
from lshfm.losses.lsh import HashFunctions
from lshfm.objectives.terms import Term, Terms


def terms_of(chosen: MimicLoss, kind: str, functions: HashFunctions | None) -> Terms:
    """The chosen losses of one kind, each weighted by beta and by its own weight."""
    terms = []
    for loss in chosen.chosen.values():
        for name, node in loss.terms.items() if loss.kind == kind else ():
            hashed = {"functions": functions} if "functions" in node else {}
            terms.append(Term(name, chosen.beta * loss.weight, build(node, at="loss", **hashed)))
    return Terms(terms)
