"""Digits: the 1797 handwritten digits, 8 x 8, that ship with scikit-learn; for quick tests."""

import numpy as np

from vaelab.data.base import ImageData
from vaelab.data.splits import Split, Splits, stratified_split


class Digits(ImageData):
    """Scikit-learn's digits, split 80 / 10 / 10 percent by `seed` with equal shares of each class; needs no download.

    The event shape is `[1, 8, 8]`, with 17 levels.
    """

    name = "digits"
    verified = True
    num_levels = 17

    def splits(self) -> Splits:
        from sklearn.datasets import load_digits  # slow to import, and needed only here

        pixels, labels = load_digits(return_X_y=True)
        images = np.asarray(pixels, np.uint8).reshape(-1, 1, 8, 8)
        return stratified_split(Split(images, np.asarray(labels)), self.seed)
