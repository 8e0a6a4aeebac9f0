"""Omniglot: Lake et al. (2015), as Burda, Grosse & Salakhutdinov (2016) resized it. 32,415 characters, 28 x 28."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vaelab.data.download import Downloaded
from vaelab.data.splits import Split, Splits, validate_on_last


class Omniglot(Downloaded):
    """Omniglot, split 23,000 / 1,345 / 8,070 as in the code of the IWAE paper (Burda et al. 2016).

    Validation is the last 1,345 of the training images, permuted by NumPy's `RandomState(123)`, whatever `seed` is. The
    event shape is `[1, 28, 28]`. The file holds reals from 0 to 1. They are rounded to 256 levels, so a pixel's
    probability in dynamic binarisation changes by at most 1/510. The file also says which alphabet each character
    belongs to; this is not read.
    """

    name = "omniglot"
    num_val = 1345
    mirrors = (
        "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/",
        "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/",
        "https://web.archive.org/web/2022id_/https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/",
    )
    hashes: ClassVar = {"chardata.mat": "md5:21ecaf34373511aa7691cf2e0802aa3d"}

    def splits(self) -> Splits:
        content = self.matlab("chardata.mat")
        train = Split(images_of(np.rint(content["data"].T * 255)))
        shuffled = train.take(np.random.RandomState(123).permutation(len(train)))
        return validate_on_last(shuffled, Split(images_of(np.rint(content["testdata"].T * 255))), self.num_val)


def images_of(rows: NDArray[np.number]) -> NDArray[np.uint8]:
    """Turn rows of 784 pixels, which MATLAB stores column by column, into images `[N, 1, 28, 28]`."""
    return rows.astype(np.uint8).reshape(-1, 1, 28, 28).swapaxes(2, 3)
