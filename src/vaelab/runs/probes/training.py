"""Probe an objective and an estimator, on a model whose parts are right."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vaelab.errors import ConfigError
from vaelab.estimators import Estimate, Estimator
from vaelab.metric import Metric
from vaelab.objectives import Objective, Terms
from vaelab.runs.own_code import name_of
from vaelab.runs.probes.calls import EXAMPLES, check_per_example, probed, refuse_result, untouched, worth_probing
from vaelab.vae import VAE


def check_objective(objective: Objective, vae: VAE) -> None:
    """Refuse an objective that returns anything but the loss and the declared metrics of each example."""
    if strange := [metric for metric in objective.metrics if not isinstance(metric, Metric)]:
        raise ConfigError(f"{name_of(objective)} declares the metric {strange[0]!r}, expected a vaelab.metric.Metric")
    if not worth_probing(vae, objective):
        return
    with untouched(vae, objective):
        x = examples(vae)
        with torch.enable_grad(), vae.mode(training=True):
            if not check_terms(objective, vae, x).loss.requires_grad:
                raise ConfigError(f"{name_of(objective)}.forward returned a loss without a gradient: do not detach it")
        if objective.has_own_bound:  # which the test asks for
            with torch.no_grad(), vae.mode(training=False):
                check_terms(objective, vae, x)


def check_terms(objective: Objective, vae: VAE, x: Tensor) -> Terms:
    """Return the terms of a few examples."""
    terms = probed(objective, objective, vae, x, torch.tensor(0))
    if not isinstance(terms, Terms):
        remedy = "return Terms(loss, metrics), with values for each example"
        refuse_result(objective, "forward", terms, "vaelab.objectives.Terms", remedy)
    if not isinstance(terms.metrics, Mapping):
        refuse_result(objective, "forward", terms.metrics, "a dict of the declared metrics in Terms")
    declared, found = ({*names} for names in ([metric.name for metric in objective.metrics], terms.metrics))
    if declared != found:
        raise ConfigError(
            f"{name_of(objective)}.forward returned the metrics {', '.join(sorted(found)) or '(none)'}: expected "
            f"{', '.join(sorted(declared)) or '(none)'}, which the class declares in its attribute metrics"
        )
    for name, values in {**terms.metrics, "loss": terms.loss}.items():
        check_per_example(objective, "forward", name, values)
    return terms


def check_estimate(estimator: Estimator, vae: VAE) -> None:
    """Refuse an estimator that returns anything but an estimate of each example."""
    with untouched(vae), torch.no_grad(), vae.mode(training=False):
        estimate = probed(estimator, estimator, vae, examples(vae), method="__call__")
    if not isinstance(estimate, Estimate):
        remedy = "return Estimate(...), with values for each example"
        refuse_result(estimator, "__call__", estimate, "vaelab.estimators.Estimate", remedy)
    for name, values in {**estimate.known(), "log_likelihood": estimate.log_likelihood}.items():
        if not name.startswith("simulated"):  # which are of other examples
            check_per_example(estimator, "__call__", name, values)


def examples(vae: VAE) -> Tensor:
    """Draw a few examples from a model, because the pixels of its own draws suit its likelihood."""
    with torch.no_grad(), vae.mode(training=False):
        return vae.sample(EXAMPLES).to(next(vae.parameters()).dtype)
