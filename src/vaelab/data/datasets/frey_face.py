"""Frey Face: 1965 frames of one face, 28 x 20, in film order; prepared by S. Roweis and B. Frey."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vaelab.data.base import ImageData
from vaelab.data.download import FETCH_AGAIN, fetch, regular, verify_array
from vaelab.data.matlab import read_bytes_matrix
from vaelab.data.splits import Split, Splits, contiguous_split, shuffled_split
from vaelab.errors import DataError

FILE = "frey_rawface.mat"
MIRRORS = (
    "https://cs.nyu.edu/~roweis/data/" + FILE,
    "https://www.cs.toronto.edu/~roweis/data/" + FILE,
    "https://web.archive.org/web/2022id_/https://cs.nyu.edu/~roweis/data/" + FILE,
)
ARRAY_SHA256 = "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"
SHAPE = (560, 1965)  # pixels, frames
SIZES = (1565, 200, 200)


class FreyFace(ImageData):
    """1565 / 200 / 200 frames, shuffled by `seed`, or contiguous in film order.

    Neighbouring frames of a film are nearly alike, so a shuffled split tests interpolation; the contiguous one is the
    honest, harder choice.

    Args:
        order: `shuffled` or `film`.
        kwargs: see `ImageData`; `data_dir/frey_face/` holds `frey_rawface.mat`, or will.

    Raises:
        DataError: see `fetch`; or the file decodes to other data.
        ValueError: another `order`.
    """

    def __init__(self, order: Literal["shuffled", "film"] = "shuffled", **kwargs: Any) -> None:
        if order not in ("shuffled", "film"):
            raise ValueError(f"data.order must be shuffled or film, found {order!r}")
        self.order = order
        super().__init__("frey_face", **kwargs)

    def splits(self) -> Splits:
        path = fetch(self.data_dir / "frey_face" / FILE, None, MIRRORS, verify=read_frames)
        faces = Split(read_frames(path).reshape(-1, 1, 28, 20))
        return contiguous_split(faces, SIZES) if self.order == "film" else shuffled_split(faces, SIZES, self.seed)

    def record(self) -> dict[str, Any]:
        return super().record() | {"order": self.order}


def read_frames(path: Path) -> NDArray[np.uint8]:
    """The frames in film order, `[1965, 560]`, from the MATLAB file that holds them.

    Raises:
        DataError: not a MATLAB file, or one of other frames.
    """
    try:
        frames = read_bytes_matrix(regular(path), "ff", SHAPE)
    except ValueError as error:
        raise DataError(f"{path} is not the MATLAB file of Frey Face ({error}); {FETCH_AGAIN}") from error
    return verify_array(np.ascontiguousarray(frames.T), ARRAY_SHA256, str(path))
