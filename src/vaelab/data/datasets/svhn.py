"""SVHN, the Street View House Numbers: Netzer et al. (2011). Cropped colour photographs of digits, 32 x 32."""

from typing import ClassVar

from vaelab.data.download import Downloaded
from vaelab.data.splits import Split, Splits, validate_on_last


class SVHN(Downloaded):
    """SVHN: train on its first 68,257 training digits, validate on its last 5,000, test on its 26,032 test digits.

    The training digits keep the order of the file. Digits of one house number follow each other there, so hardly any
    house is in two splits. The 531,131 extra digits are not used. The event shape is `[3, 32, 32]`, with 256 levels.
    """

    name = "svhn"
    num_val = 5000
    mirrors = (
        "http://ufldl.stanford.edu/housenumbers/",
        "https://web.archive.org/web/2022id_/http://ufldl.stanford.edu/housenumbers/",
    )
    hashes: ClassVar = {
        "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    }

    def splits(self) -> Splits:
        return validate_on_last(self._read("train"), self._read("test"), self.num_val)

    def _read(self, part: str) -> Split:
        content = self.matlab(f"{part}_32x32.mat")  # X [32, 32, 3, N] and y [N, 1], where 10 stands for digit 0
        return Split(content["X"].transpose(3, 2, 0, 1), content["y"].flatten() % 10)
