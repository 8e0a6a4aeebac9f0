"""Embed the figures of run folders in the page as small pictures, up to a limit on jobs and bytes."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vaelab.errors import RunFolderError
from vaelab.reporting.gathering import Report
from vaelab.reporting.groups import Ranked
from vaelab.security.redaction import presentable
from vaelab.security.untrusted import opened

FIGURE_ORDER = ("reconstructions", "samples", "manifold", "latent", "kl_per_dimension")
MOST_JOBS = 24
MOST_KINDS = 8
MOST_BYTES = 6 * 2**20  # of all pictures, before base64 makes them a third longer
FILE_LIMIT = 2**23  # bytes; our figures have some hundred thousand
SIDE_LIMIT = 5000  # pixels of a file
SIDE = 480  # pixels on the page


@dataclass(frozen=True)
class Picture:
    """One figure of one job, made small.

    Attributes:
        kind: the file's name without its suffix.
        group: the number of the job's group.
        uri: the picture as a data URI.
        size: width and height in pixels.
    """

    kind: str
    ranked: Ranked
    group: int
    uri: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Pictures:
    """The pictures of the page.

    Attributes:
        kinds: the kinds of figures, in the order of the picker.
        left_out: a sentence on the jobs without pictures; empty if there are none.
    """

    kinds: Sequence[str]
    shown: Sequence[Picture]
    left_out: str


def pictures_of(report: Report) -> Pictures:
    """Collect the figures of the ranked jobs, best first; of too many jobs, take the best of each setting."""
    jobs = [(group.number, ranked) for group in report.groups for ranked in group.ranked]
    jobs = list({ranked.entry.name: (number, ranked) for number, ranked in reversed(jobs)}.values())[::-1]
    chosen = jobs if len(jobs) <= MOST_JOBS else list(_best_of_each(jobs))[:MOST_JOBS]
    shown, bytes_left = [], MOST_BYTES
    for number, ranked in chosen:
        own = [Picture(kind, ranked, number, *small) for kind, small in _small_figures(ranked.entry.path)]
        bytes_left -= sum(len(picture.uri) for picture in own) * 3 // 4
        if bytes_left < 0:
            break
        shown += own
    names = dict.fromkeys(picture.ranked.entry.name for picture in shown)
    kinds = sorted({picture.kind for picture in shown}, key=_order)
    left_out = f"Pictures of {len(names)} of {len(jobs)} jobs: the best of each setting, up to {MOST_JOBS} jobs and "
    left_out += f"{MOST_BYTES // 2**20} MiB; the other figures are in the run folders."
    return Pictures(kinds, shown, left_out if len(chosen) < len(jobs) or bytes_left < 0 else "")


def _best_of_each(jobs: Sequence[tuple[int, Ranked]]) -> Iterator[tuple[int, Ranked]]:
    seen = set()
    for number, ranked in jobs:
        setting = (number, str({name: value for name, value in ranked.entry.settings.items() if name != "seed"}))
        if setting not in seen:
            seen.add(setting)
            yield number, ranked


def _order(kind: str) -> tuple[int, str]:
    return (FIGURE_ORDER.index(kind) if kind in FIGURE_ORDER else len(FIGURE_ORDER)), kind


def _small_figures(path: Path) -> Iterator[tuple[str, tuple[str, tuple[int, int]]]]:
    files = sorted((path / "figures").glob("*.png"), key=lambda file: _order(file.stem))
    for file in files[:MOST_KINDS]:
        small = _small(file)
        if small is not None:
            yield presentable(file.stem), small


def _small(file: Path) -> tuple[str, tuple[int, int]] | None:
    """Return a picture as a data URI with its size; None if the file is not a PNG within the limits."""
    try:
        with opened(file) as stream:
            content = stream.read(FILE_LIMIT + 1)
        if len(content) > FILE_LIMIT:
            return None
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if max(image.size) > SIDE_LIMIT:  # checked before the image is decompressed
                return None
            whole = image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")
            small = whole.reduce(max(1, max(image.size) // SIDE)).convert("RGB")  # cheaper than resizing the whole
        small.thumbnail((SIDE, SIDE))
    except (RunFolderError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    out = io.BytesIO()
    small.save(out, "WEBP", quality=75, method=2)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}", small.size
