"""Read a user's own arrays and pictures: nothing is unpickled, and every fault is one line."""

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vaelab.errors import DataError

log = logging.getLogger(__name__)
T = TypeVar("T")
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
    except Exception as error:  # NumPy, zipfile and tokenize raise different classes of errors
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
        return np.asarray(archive[name])  # a member that is no array comes as bytes


def picture_files(folder: Path) -> list[Path]:
    """Return the files of all pictures below a folder, sorted by path as text. Skip other files, with a warning.

    Raises:
        DataError: there is no picture.
    """
    found = [file for file in folder.rglob("*") if file.is_file()]
    files = [file for file in found if file.suffix[1:].lower() in FORMATS]
    files.sort(key=lambda file: file.relative_to(folder).as_posix())
    endings = ", .".join(FORMATS)
    if not files:
        raise DataError(f"{folder} holds no picture, expected files that end in .{endings}")
    if skipped := len(found) - len(files):
        log.warning("%s: skipped %d of %d files, because pictures end in .%s", folder, skipped, len(found), endings)
    return files


def folders_of(files: Sequence[Path], folder: Path) -> list[str]:
    """Return which sub-folder of `folder` each file lies in; nothing if one lies in none, or all in the same."""
    paths = [file.relative_to(folder).parts for file in files]
    found = [parts[0] for parts in paths if len(parts) > 1]
    return found if len(found) == len(files) and len({*found}) > 1 else []


def read_pictures(files: Sequence[Path]) -> NDArray[Any]:
    """Read pictures: `[N, H, W]` if grey, `[N, H, W, 3]` if colour. Each is turned as its EXIF orientation says.

    Raises:
        DataError: a picture is damaged, too large, of several frames, neither grey nor RGB, transparent, or unlike the
            first one.
    """
    _check_alike(files, [_kind(file) for file in files])  # before decoding, which takes time and memory
    pictures = [_opened(file, _pixels) for file in files]
    _check_alike(files, [f"the shape {pixels.shape}" for pixels in pictures])
    return np.stack(pictures)


def _kind(file: Path) -> str:
    """Return the mode and size of a picture, without decoding it."""
    mode, size, frames = _opened(file, lambda picture: (_mode(picture), picture.size, getattr(picture, "n_frames", 1)))
    if frames > 1:
        raise DataError(f"{file} has {frames} frames, expected one: save each as a file of its own")
    if mode not in ("1", "L", "RGB"):
        save = "save PIL.Image.open(file).convert('RGB')"
        if mode[0] in "IF":  # 16 bits or more, which `convert` would clip to 255
            save = "scale the pixels of all pictures, and save them as an array of 0 .. 255 with numpy.save"
        raise DataError(f"{file} has the mode {mode}, expected L (grey) or RGB: {save}")
    return f"the mode {mode} and sides of {min(size)} and {max(size)} pixels"  # which it keeps when it is turned


def _mode(picture: Any) -> str:
    """Return the mode of a picture; that of its palette, if it has one without transparent colours."""
    if picture.mode != "P" or "transparency" in picture.info:
        return picture.mode
    red, green, blue = (picture.palette.palette[i::3] for i in range(3))
    return "L" if picture.palette.mode == "RGB" and red == green == blue else picture.palette.mode


def _pixels(picture: Any) -> NDArray[Any]:
    from PIL import ImageOps

    return np.asarray(ImageOps.exif_transpose(picture.convert(_mode(picture)) if picture.mode == "P" else picture))


def _opened(file: Path, read: Callable[[Any], T]) -> T:
    """Return what `read` makes of a picture."""
    from PIL import Image  # slow to import, and needed only here

    try:
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(file, formats=[FORMATS[file.suffix[1:].lower()]]) as picture,
        ):
            return read(picture)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = Image.MAX_IMAGE_PIXELS
        raise DataError(f"{file} is too large, expected at most {limit} pixels: scale it down, or remove it") from error
    except Exception as error:  # Pillow's plugins raise different classes of errors
        raise DataError(f"{file} is not a whole picture: save it again, or remove it") from error


def _check_alike(files: Sequence[Path], kinds: Sequence[str]) -> None:
    for file, kind in zip(files, kinds, strict=True):
        if kind != kinds[0]:
            raise DataError(
                f"{file} has {kind}, but {files[0].name} has {kinds[0]}: expected pictures of one mode and one size: "
                "convert them by PIL.Image.Image.convert, and scale them by PIL.Image.Image.resize"
            )
