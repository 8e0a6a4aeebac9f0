"""Frey Face: 1965 frames of one face, 28 x 20, in film order; prepared by S. Roweis and B. Frey."""

from typing import Any, ClassVar, Literal

from vaelab.data.download import Downloaded
from vaelab.data.splits import Split, Splits, contiguous_split, shuffled_split

FILE = "frey_rawface.mat"
SIZES = (1565, 200, 200)


class FreyFace(Downloaded):
    """Frey Face: 1565 frames for training, 200 for validation and 200 for testing.

    The event shape is `[1, 28, 20]`, with 256 levels. Neighbouring frames of a film are nearly alike, so a shuffled
    split tests interpolation. The contiguous split is the honest, harder choice.

    Args:
        order: `shuffled`, by `seed`; or `film`, contiguous in film order.
        kwargs: see `ImageData`.

    Raises:
        ValueError: `order` is neither `shuffled` nor `film`.
    """

    name = "frey_face"
    mirrors = (
        "https://cs.nyu.edu/~roweis/data/",
        "https://www.cs.toronto.edu/~roweis/data/",
        "https://web.archive.org/web/2022id_/https://cs.nyu.edu/~roweis/data/",
    )
    hashes: ClassVar = {FILE: "93b37fb042a52feeedc10864b00cd75d9490b2ee0b5549496b1b939061c642a0"}

    def __init__(self, order: Literal["shuffled", "film"] = "shuffled", **kwargs: Any) -> None:
        if order not in ("shuffled", "film"):
            raise ValueError(f"data.order must be shuffled or film, found {order!r}")
        self.order = order
        super().__init__(**kwargs)

    def splits(self) -> Splits:
        pixels = self.matlab(FILE)["ff"]  # [560, 1965]
        frames = Split(pixels.T.reshape(-1, 1, 28, 20))
        return contiguous_split(frames, SIZES) if self.order == "film" else shuffled_split(frames, SIZES, self.seed)

    def record(self) -> dict[str, Any]:
        return super().record() | {"order": self.order}
