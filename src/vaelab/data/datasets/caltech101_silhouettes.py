"""Caltech 101 Silhouettes: Marlin, Swersky, Chen & de Freitas (2010). 8,671 outlines of objects, filled, 28 x 28."""

from typing import ClassVar

from vaelab.data.datasets.omniglot import images_of
from vaelab.data.download import Downloaded
from vaelab.data.splits import SPLITS, Split, Splits

FILE = "caltech101_silhouettes_28_split1.mat"


class Caltech101Silhouettes(Downloaded):
    """Caltech 101 Silhouettes in their authors' split, 4,100 / 2,264 / 2,307.

    The event shape is `[1, 28, 28]`, with 2 levels. Values are 1 minus those of the file, as in the code of Tomczak &
    Welling (2018). The labels are not read.
    """

    name = "caltech101_silhouettes"
    num_levels = 2
    mirrors = (
        "https://people.cs.umass.edu/~marlin/data/",
        "http://people.cs.umass.edu/~marlin/data/",
        "https://web.archive.org/web/2022id_/https://people.cs.umass.edu/~marlin/data/",
    )
    hashes: ClassVar = {FILE: "md5:4483e9c14b188fd09937f9ea6f9ea777"}

    def splits(self) -> Splits:
        content = self.matlab(FILE)
        return {name: Split(images_of(1 - content[f"{name}_data"])) for name in SPLITS}
