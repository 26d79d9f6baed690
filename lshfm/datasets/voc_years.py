"""VOC data sets of several years as one: VOC2007 and VOC2012 together, as detectors are trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lshfm.datasets.annotations import Annotations, Report
from lshfm.datasets.reader import Reader
from lshfm.datasets.voc import VOC
from lshfm.errors import InputError, parameter


class VOCYears(Reader):
    """The pictures of a split of each of some years, one year after the other.

    years: of each split, as {trainval: [2007, 2012], test: [2007]}. The rest as VOC has it.
    """

    first_pixel = VOC.first_pixel

    def __init__(
        self, root: str | Path, years: Mapping[str, Sequence[int]], classes: Sequence[str] | None = None,
        exif: bool = False,
    ) -> None:  # fmt: skip
        own = parameter("years")
        if (
            not isinstance(years, Mapping)
            or not years
            or not all(isinstance(y, Sequence) and y for y in years.values())
        ):
            raise InputError(f"{own}={years}: must say the years of each split, as {{trainval: [2007, 2012]}}")
        self.years = {str(name): tuple(each) for name, each in years.items()}
        numbers = dict.fromkeys(year for each in self.years.values() for year in each)
        self.sets = {year: VOC(root, year, "negative", classes, exif) for year in numbers}
        first = next(iter(self.sets.values()))
        self.root, self.classes, self.exif = first.root, first.classes, exif

    def read(self, name: str, report: Report, classes: Sequence[str] | None = None) -> Annotations:
        """What each year's files say of the split."""
        if name not in self.years:
            raise InputError(f"no years are named for split '{name}': {parameter('years')} has {', '.join(self.years)}")
        self._require_each_year(self.years[name])
        found = [self.sets[year].read(name, report, classes) for year in self.years[name]]
        pictures = tuple(picture for each in found for picture in each.pictures)
        source = ", ".join(each.source for each in found)
        return Annotations(source, found[0].classes, pictures, all(each.is_whole for each in found))

    def _require_each_year(self, years: Sequence[int]) -> None:
        """InputError where the root is one year's own folder, and another one is wanted, too."""
        if len(years) > 1 and any(self.sets[year].folder() == self.root for year in years):
            lacking = [f"VOC{year}" for year in years if self.root.name != f"VOC{year}"]
            raise InputError(
                f"No {lacking[0]} at {parameter('root')}={self.root}, which is the folder of one year: give the one "
                f"that {' and '.join(f'VOC{year}' for year in years)} lie in"
            )

    def names(self) -> list[str]:
        """The splits that years are named for."""
        return sorted(self.years)
