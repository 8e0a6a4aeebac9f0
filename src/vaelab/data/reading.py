"""Read a user's own arrays and pictures: nothing is unpickled, and every fault is one line."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.errors import DataError

FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "bmp": "BMP", "tif": "TIFF", "tiff": "TIFF", "webp": "WEBP"}
# these are not all that Pillow reads, because some, such as .eps, run other programs


def read_array(path: Path, expected: str, kinds: str, axes: Sequence[int]) -> NDArray[Any]:
    """Read `FILE.npy`, which is mapped into memory, or `FILE.npz`, or one of its arrays, `FILE.npz:NAME`.

    Raises:
        DataError: the file is missing or damaged, or holds no such array, or an empty one, or one with a `dtype.kind`
            not in `kinds` or an `ndim` not in `axes`. The message says what was `expected`.
    """
    archive = re.fullmatch(r"(.*\.npz)(?::(.*))?", str(path))
    path = Path(archive[1]) if archive else path
    if not path.is_file():  # reading a pipe or a device might never end
        found = "is not a regular file" if path.exists() else "does not exist"
        raise DataError(
            f"{path} {found}; put the file there, or set data_dir (or VAELAB_DATA_DIR) to the folder that "
            "data.file and data.labels start from"
        )
    try:
        array = _of_archive(path, archive[2]) if archive else np.lib.format.open_memmap(path, mode="r")
    except DataError:
        raise
    except Exception as error:  # NumPy, zipfile and tokenize each raise errors of their own
        ending, save = (".npz", "numpy.savez") if archive else (".npy", "numpy.save")
        raise DataError(
            f"{path} is not a whole {ending} file of numbers (Python objects are never unpickled); "
            f"expected {expected}: save the array again with {save}"
        ) from error
    if array.dtype.kind not in kinds or array.ndim not in axes or array.size == 0:
        raise DataError(
            f"{path} holds {array.dtype!s:.60} of shape {array.shape}, expected {expected}, with at least one element: "
            "save such an array with numpy.save"
        )
    return array


def _of_archive(path: Path, name: str | None) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as archive:
        if name is None and len(archive.files) == 1:
            name = archive.files[0]
        if name not in archive.files:
            raise DataError(f"{path} holds the arrays {archive.files!s:.200}: add the name of one, {path.name}:NAME")
        return archive[name]


def read_pictures(folder: Path) -> NDArray[Any]:
    """Read all pictures below a folder, in the order of their paths: `[N, H, W]` if grey, `[N, H, W, 3]` if colour.

    Raises:
        DataError: there is no picture, or one is damaged, neither grey nor RGB, or unlike the first one.
    """
    from PIL import Image  # slow to import, and needed only here

    files = sorted(file for file in folder.rglob("*") if file.suffix[1:].lower() in FORMATS and file.is_file())
    if not files:
        raise DataError(f"{folder} holds no picture, expected files that end in .{', .'.join(FORMATS)}")
    pictures: list[NDArray[Any]] = []
    for file in files:
        try:
            with Image.open(file, formats=[FORMATS[file.suffix[1:].lower()]]) as picture:
                mode, pixels = picture.mode, np.asarray(picture)
        except Exception as error:  # Pillow's plugins each raise errors of their own
            raise DataError(f"{file} is not a whole picture: save it again, or remove it") from error
        if mode not in ("1", "L", "RGB"):
            raise DataError(
                f"{file} has the mode {mode}, expected L (grey) or RGB: save PIL.Image.open(file).convert('RGB')"
            )
        if pictures and pixels.shape != pictures[0].shape:
            raise DataError(
                f"{file} has the shape {pixels.shape}, but {files[0].name} has {pictures[0].shape}: expected pictures "
                "of one size, all grey or all in colour"
            )
        pictures.append(pixels)
    return np.stack(pictures)
