"""Which likelihood, and how large a latent: decoders that share bits per dimension, with several latent sizes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vaelab.api import Run, Runs
from vaelab.evaluation.paired import difference
from vaelab.evaluation.predictive import RANK_HISTOGRAM, Histograms
from vaelab.reproducing import size_figures
from vaelab.reproducing.base import Lab, Reproduction
from vaelab.reproducing.results import Row
from vaelab.reproducing.size_figures import BITS, Model, Panel
from vaelab.reproducing.tables import bits_of, error_of_examples
from vaelab.runs.evaluating.complete import Evaluated
from vaelab.runs.folder.contents import stored_pixels

PERCENT = {
    "pareto_k_bad": "examples with a poor proposal, %",
    "coverage_50": "pixels in 50 % intervals, %",
    "coverage_90": "pixels in 90 % intervals, %",
    "miscalibration": "miscalibration, %",
}
DENSITY = "bits/dim as a density"
ACTIVE = "active units"
DIGITS = {BITS: 3, DENSITY: 3}  # decimals to show; of the others 1


@dataclass(frozen=True)
class Measured:
    """What was measured of one run.

    Attributes:
        numbers: by quantity.
        validation: bits per dimension of the validation's bound, in the decoder's own measure.
        examples: by kind of bits per dimension, the part of them that comes from each test example.
        ranks: the rank histogram of each test example that is checked.
    """

    numbers: dict[str, float]
    validation: float
    examples: Mapping[str, NDArray[np.float64]]
    ranks: Histograms


Cells = Mapping[Model, Sequence[Measured]]  # what was measured of each model, one for each seed


class LatentByDecoder(Reproduction):
    """Trains each decoder with each latent size on each data set, and compares them in bits per dimension.

    The weights are those of the best validation. All decoders are scored as masses over grey levels: densities by
    `measure=mass`. A budget has `data`, a list of data sets with `name` and `overrides`; `decoders`; `latent_dims`;
    `seeds`; `evaluate`, the overrides of `vaelab.evaluate`; and `ranks_at`, the latent size whose ranks are drawn.
    """

    def repeat(self, lab: Lab, budget: Mapping[str, Any]) -> list[Row]:
        models = [(decoder, size) for decoder in budget["decoders"] for size in budget["latent_dims"]]
        settings = {model: "decoder={} latent_dim={}".format(*model) for model in models}
        found: dict[str, Cells] = {}
        for data in budget["data"]:
            trained = lab.sweep(data["name"], settings, data["overrides"], budget["seeds"])
            found[data["name"]] = measure(lab, trained, budget["evaluate"])
        panels = {name: panel_of(name, cells) for name, cells in found.items()}
        at = budget["ranks_at"]
        ranks = {name: ranks_at(cells, at) for name, cells in found.items()}
        lab.draw("Bits per dimension against latent size, with standard errors over seeds", size_figures.lines(panels))
        lab.draw(f"Ranks of pixels in p(x|z), N_z = {at}", size_figures.rank_histograms(ranks), "ranks")
        lab.publish("Interactive figures", size_figures.page(self.title, panels))
        rows = [row for panel in panels.values() for quantities in panel.values() for row in quantities.values()]
        return rows + [row for name, cells in found.items() for row in against_best(name, cells)]


def measure(lab: Lab, trained: Mapping[Model, Runs], overrides: str) -> Cells:
    """Evaluate the best weights of each run. Score a density twice: as a mass over levels, and as it is."""
    best = {model: runs.with_weights("best") for model, runs in trained.items()}
    densities = {model: runs for model, runs in best.items() if stored_pixels(runs[0].path) == "unit"}
    masses = {model: runs for model, runs in best.items() if model not in densities}
    as_densities = lab.evaluate(densities, overrides)
    as_masses = lab.evaluate(masses, overrides) | lab.evaluate(densities, f"{overrides} measure=mass")
    nothing = [None] * len(next(iter(best.values())))
    return {
        model: list(map(measured, runs, as_masses[model], as_densities.get(model, nothing)))
        for model, runs in best.items()
    }


def measured(run: Run, as_mass: Evaluated, as_density: Evaluated | None) -> Measured:
    """Return what the evaluations of a run found; the second is None for a decoder of levels."""
    scores = {BITS: bits_of(run, as_mass)} | ({DENSITY: bits_of(run, as_density)} if as_density else {})
    numbers = {name: score.value for name, score in scores.items()} | {ACTIVE: as_mass["active_units"]}
    numbers |= {title: 100 * as_mass[name] for name, title in PERCENT.items()}
    examples = {name: cast(NDArray[np.float64], score.examples) for name, score in scores.items()}
    return Measured(numbers, run.metrics["best/val/bits_per_dim"], examples, as_mass.examples[RANK_HISTOGRAM])


def panel_of(data: str, cells: Cells) -> Panel:
    """Return the rows of each model by quantity. Bits have an error of the choice of test examples."""
    panel: Panel = {}
    for (decoder, size), runs in cells.items():
        errors = {name: error_of_examples([run.examples[name] for run in runs]) for name in runs[0].examples}
        panel[decoder, size] = {
            name: Row(
                f"{data}, {decoder}, N_z = {size}",
                name,
                [run.numbers[name] for run in runs],
                errors.get(name, 0.0),
                digits=DIGITS.get(name, 1),
            )
            for name in runs[0].numbers
        }
    return panel


def against_best(data: str, cells: Cells) -> Iterator[Row]:
    """Compare each decoder, at its best latent size, with the best decoder at its own.

    Yield how many more bits it needs. The validation chooses both, so that the test has no part in the choice.
    """
    validation = {model: fmean(run.validation for run in runs) for model, runs in cells.items()}
    chosen: dict[str, Model] = {}
    for model in sorted(cells, key=validation.__getitem__):
        chosen.setdefault(model[0], model)  # the decoder's best size comes first
    best, *others = chosen.values()
    for model in others:
        found = difference(*([run.examples[BITS] for run in cells[each]] for each in (model, best)))
        named = f"{data}, {model[0]}, N_z = {model[1]}"
        quantity = f"bits/dim above {best[0]}, N_z = {best[1]}"
        yield Row(named, quantity, [found.mean], half_width=found.half_width, digits=3)


def ranks_at(cells: Cells, size: int) -> dict[str, Histograms]:
    """Return the rank histograms of each decoder's test examples at one latent size, averaged over the seeds."""
    of_seeds = {decoder: [run.ranks for run in runs] for (decoder, each), runs in cells.items() if each == size}
    return {decoder: sum(ranks[1:], ranks[0]) / len(ranks) for decoder, ranks in of_seeds.items()}
