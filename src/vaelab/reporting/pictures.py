"""The figures of run folders as small pictures inside the page, for so many jobs as the page can bear."""

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

FIRST = ("reconstructions", "samples", "manifold", "latent", "kl_per_dimension")
MOST_JOBS = 24
MOST_KINDS = 8
MOST_BYTES = 6 * 2**20  # of all pictures, before base64 makes them a third longer
FILE_LIMIT = 2**23  # bytes; ours have some hundred thousand
SIDE_LIMIT = 5000  # pixels
SIDE = 480


@dataclass(frozen=True)
class Picture:
    """One figure of one job, made small.

    Attributes:
        kind: the file's name without its ending.
        row: the job's place in the groups, for filters.
    """

    kind: str
    ranked: Ranked
    group: int
    uri: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Pictures:
    """What is shown, and what was left out.

    Attributes:
        kinds: in the order of the picker.
        left_out: a sentence, or nothing.
    """

    kinds: Sequence[str]
    shown: Sequence[Picture]
    left_out: str


def pictures_of(report: Report) -> Pictures:
    """The figures of the jobs that have numbers, group by group, best first; of too many, one of each setting."""
    jobs = [(group.number, ranked) for group in report.groups for ranked in group.ranked]
    jobs = list({ranked.entry.name: (number, ranked) for number, ranked in reversed(jobs)}.values())[::-1]
    chosen = jobs if len(jobs) <= MOST_JOBS else list(_best_of_each(jobs))[:MOST_JOBS]
    shown, bytes_left = [], MOST_BYTES
    for number, ranked in chosen:
        found = [Picture(kind, ranked, number, *small) for kind, small in _small_figures(ranked.entry.path)]
        bytes_left -= sum(len(picture.uri) for picture in found) * 3 // 4
        if bytes_left < 0:
            break
        shown += found
    names = dict.fromkeys(picture.ranked.entry.name for picture in shown)
    kinds = sorted({picture.kind for picture in shown}, key=lambda kind: (*_place(kind), kind))
    left_out = f"Pictures of {len(names)} of {len(jobs)} jobs: the best of each setting, up to {MOST_JOBS} jobs and "
    left_out += f"{MOST_BYTES // 2**20} MiB; the others' are in their folders."
    return Pictures(kinds, shown, left_out if len(chosen) < len(jobs) or bytes_left < 0 else "")


def _best_of_each(jobs: Sequence[tuple[int, Ranked]]) -> Iterator[tuple[int, Ranked]]:
    seen = set()
    for number, ranked in jobs:
        setting = (number, str({name: value for name, value in ranked.entry.settings.items() if name != "seed"}))
        if setting not in seen:
            seen.add(setting)
            yield number, ranked


def _place(kind: str) -> tuple[int]:
    return (FIRST.index(kind) if kind in FIRST else len(FIRST),)


def _small_figures(path: Path) -> Iterator[tuple[str, tuple[str, tuple[int, int]]]]:
    files = sorted((path / "figures").glob("*.png"), key=lambda file: (*_place(file.stem), file.stem))
    for file in files[:MOST_KINDS]:
        small = _small(file)
        if small is not None:
            yield presentable(file.stem), small


def _small(file: Path) -> tuple[str, tuple[int, int]] | None:
    """A picture as a data URI, with its width and height; None if it is none that can be shown."""
    try:
        with opened(file) as stream:
            content = stream.read(FILE_LIMIT + 1)
        if len(content) > FILE_LIMIT:
            return None
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if max(image.size) > SIDE_LIMIT:  # before it is decompressed
                return None
            whole = image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")
            small = whole.reduce(max(1, max(image.size) // SIDE)).convert("RGB")  # far cheaper than to resize all
        small.thumbnail((SIDE, SIDE))
    except (RunFolderError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    out = io.BytesIO()
    small.save(out, "WEBP", quality=75, method=2)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}", small.size
