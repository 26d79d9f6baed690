"""lshfm recipes: the published experiments and the command of each."""

from collections.abc import Iterator, Sequence

from lshfm.config.recipes import Recipe, recipes
from lshfm.console import console, shown
from lshfm.errors import InputError

HELP = """usage: lshfm recipes

Lists the published experiments (arXiv 2011.01424): data set, teacher -> student
with their poolings, the command of each, the published score in percent ("-"
where there is none): mAP, top-1 for CIFAR and ImageNet, AP50 for boxes; and
what the network starts from. "elsewhere": top-1 of the common benchmark
(CRD's), with the same networks and schedule. "not published" marks settings
that no published experiment has: those of the pair's others, with that loss.

lshfm recipes | grep voc2007                  those on one data set"""
LAST = """Each command also takes dataset.root=DIR, and mimic teacher=PATH, the trained teacher's checkpoint.
What is typed wins over the recipe. Not published: any other loss, with beta 1 and the data set's defaults."""


def run(words: Sequence[str]) -> None:
    """Print all recipes, or the page of help. Raises InputError for any other word."""
    if set(words) & {"-h", "--help"}:
        console.print(HELP)
    elif words:
        raise InputError(f"lshfm recipes takes nothing else, and got {' '.join(words)}")
    else:
        console.print("\n".join(_lines(recipes())))


def _lines(found: Sequence[Recipe]) -> Iterator[str]:
    """Plain lines, not a table: a terminal may wrap them, and what is typed from them is never cut."""
    width = max(len(e.command) for recipe in found for e in recipe.experiments)
    yield f"  {'command':<{width}}  {'score':>5}  starts from"
    for recipe in found:
        yield from _heading(recipe)
        for experiment in recipe.experiments:
            score = experiment.expected_top1 if experiment.expected_mAP is None else experiment.expected_mAP
            number = "-" if score is None else shown(score)
            mark = "" if experiment.is_published else "; settings not published"
            others = f"; elsewhere {experiment.benchmark}" if experiment.benchmark else ""
            yield f"  {experiment.command:<{width}}  {number:>5}  {experiment.start}{mark}{others}"
        yield ""
    yield LAST


def _heading(recipe: Recipe) -> Iterator[str]:
    score = f", teacher's mAP {recipe.teacher_mAP}" if recipe.teacher_mAP is not None else ""
    pair = f"{recipe.teacher} -> {recipe.network}{score}"
    yield f"{recipe.dataset}: {pair if recipe.teacher else recipe.network}"
    if recipe.note:
        yield f"  note: {recipe.note}"
