"""The chosen losses of a mimic command as weighted terms, by what they compare."""

from lshfm.config.build import build
from lshfm.config.groups import MimicLoss
from lshfm.losses.logits import KL
from lshfm.losses.lsh import HashFunctions
from lshfm.objectives.terms import Term, Terms

PUBLISHED_TEMPERATURE = 4.0  # of the KL that `alpha` weighs, where no loss has a temperature


def terms_by_kind(loss: MimicLoss, functions: HashFunctions | None) -> dict[str, Terms]:
    """The terms of each kind, weighted by beta and by their loss's own weight; alpha adds the logits' KL.

    functions: for the losses on hash functions. There is an entry for features and for logits, even if empty.
    """
    terms: dict[str, list[Term]] = {"feature": [], "logit": []}
    for chosen in loss.chosen.values():
        for name, node in chosen.terms.items():
            hashed = {"functions": functions} if "functions" in node else {}
            term = Term(name, loss.beta * chosen.weight, build(node, at="loss", **hashed))
            terms.setdefault(chosen.kind, []).append(term)
    if loss.alpha:  # a term of weight 0 is left out: 0 times an infinite loss is no number
        temperature = loss.temperature.temperature if loss.temperature else PUBLISHED_TEMPERATURE
        terms["logit"].append(Term("kl", loss.alpha, KL(temperature)))
    return {kind: Terms(each) for kind, each in terms.items()}
