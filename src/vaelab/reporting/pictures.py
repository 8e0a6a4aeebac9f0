"""Embed the figures of run folders in the page as small pictures."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from vaelab.errors import RunFolderError
from vaelab.reporting.gathering import Report
from vaelab.reporting.groups import Ranked
from vaelab.security.redaction import presentable
from vaelab.security.untrusted import opened

# the kinds that the picker lists first, in this order
FIRST = ("reconstructions", "predictive_check", "samples", "manifold", "latent")
MOST_JOBS = 24
MOST_KINDS = 8
MOST_PIXELS = 5000  # on the longest side of a figure; larger figures are skipped
SIDE = 800  # pixels, on the longest side of a picture


@dataclass(frozen=True)
class Picture:
    """One figure of one job, made small."""

    kind: str  # the file's name without its suffix
    ranked: Ranked
    group: int  # the number of the job's group
    uri: str  # the picture as a data URI
    size: tuple[int, int]  # width and height in pixels


def pictures_of(report: Report) -> tuple[list[Picture], str]:
    """Return the figures of the ranked jobs, best settings first, and a sentence on what is left out, if anything is.

    Of too many jobs, take one of each setting.
    """
    jobs: dict[str, tuple[int, Ranked]] = {}
    for group in report.groups:
        for ranked in group.ranked:
            jobs.setdefault(ranked.entry.name, (group.number, ranked))
    firsts = [setting.jobs[0].entry.name for group in report.groups for setting in group.settings]
    chosen = list(dict.fromkeys(firsts))[:MOST_JOBS] if len(jobs) > MOST_JOBS else list(jobs)
    shown = [picture for name in chosen for picture in _small_figures(*jobs[name])]
    left_out = f"Pictures of {len(chosen)} of {len(jobs)} jobs: the first seed of each setting, up to {MOST_JOBS}; "
    left_out += "the other figures are in the run folders."
    return shown, left_out if len(chosen) < len(jobs) else ""


def _order(kind: str) -> tuple[int, str]:
    return (FIRST.index(kind) if kind in FIRST else len(FIRST)), kind


def _small_figures(group: int, ranked: Ranked) -> Iterator[Picture]:
    files = sorted((ranked.entry.path / "figures").glob("*.png"), key=lambda file: _order(file.stem))
    for file in files[:MOST_KINDS]:
        out = io.BytesIO()
        try:
            with opened(file) as stream, Image.open(stream, formats=["PNG"]) as image:
                if max(image.size) > MOST_PIXELS:  # checked before the image is decompressed
                    continue
                small = image.convert("RGB")
            small.thumbnail((SIDE, SIDE), reducing_gap=2)
            small.save(out, "WEBP", quality=75, method=2)
        except (RunFolderError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # not a PNG file
            continue
        uri = f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
        yield Picture(presentable(file.stem), ranked, group, uri, small.size)
