"""The claims of sections 2.2 and 2.3 of Kingma & Welling (2014), each a number with an error."""

from collections.abc import Mapping
from typing import Any

from vaelab.randomness import seed_draws
from vaelab.reproducing.base import Lab, Reproduction
from vaelab.reproducing.results import Row
from vaelab.reproducing.sgvb_variance import Number, estimator_variances, noise_share


class Claims(Reproduction):
    """Measures the variances of the estimators on a trained model, and trains with one and with many samples of z.

    A budget has the `overrides` of the model, `seeds`, `num_images` training examples, `num_repeats` and `batch_size`;
    `many`, a number of samples L; and `epochs`.
    """

    def repeat(self, lab: Lab, budget: Mapping[str, Any]) -> list[Row]:
        common = f"{budget['overrides']} trainer.max_epochs={budget['epochs']}"
        many = budget["many"]
        settings = {f"L = {samples}": f"objective.num_samples={samples}" for samples in (1, many)}
        trained = lab.sweep("", settings, common, budget["seeds"])
        (run, *_), others = trained["L = 1"], trained[f"L = {many}"]
        seed_draws("cpu", "pixels", 0)
        images = run.data.draw("train", range(budget["num_images"]))
        size, repeats = budget["batch_size"], budget["num_repeats"]
        variances = estimator_variances(run.vae, images, 0, repeats, size)
        rows = [
            claim("variance of estimator A over B, the bound", variances.bound.ratio, 1.0),
            claim("variance of estimator A over B, gradient for phi", variances.encoder.ratio, 1.0),
            claim("variance of estimator A over B, gradient for theta", variances.decoder.ratio),
            claim("variance of the naive gradient over A's, phi", variances.score_function.ratio, 1.0),
        ]
        for number, samples in ((1, 1), (size, 1), (size, many)):
            found = noise_share(run.vae, images, 0, number, samples, repeats)
            setting = f"model of seed 0, M = {number}, L = {samples}"
            rows.append(claim("share of z's noise in the gradient's variance", found.share, setting=setting))
            if number > 1:  # of one example, the squared mean has a large error
                rows.append(claim("variance of the gradient over its squared mean", found.relative, setting=setting))
        bounds = {name: [each.metrics["test/elbo"] for each in runs] for name, runs in trained.items()}
        rows += [Row(f"trained with {name}", "ELBO of the test data, nats", values) for name, values in bounds.items()]
        gain = [b.metrics["test/elbo"] - a.metrics["test/elbo"] for a, b in zip(trained["L = 1"], others, strict=True)]
        rows.append(Row(f"trained with L = {many} minus L = 1", "ELBO of the test data, nats", gain))
        return rows


def claim(quantity: str, found: Number, above: float | None = None, setting: str = "model of seed 0") -> Row:
    """Return the row of a number with an error of its own."""
    return Row(setting, quantity, [found.value], found.standard_error, claimed_above=above, digits=3)
