"""Objectives for tests: the usual bound, changed in one respect."""

from collections.abc import Callable

from torch import Tensor

from vaelab.objectives import ELBO, Terms
from vaelab.vae import VAE


class Changed(ELBO):
    """The usual bound, with what `change(terms, vae)` makes of its terms."""

    def __init__(self, change: Callable[[Terms, VAE], Terms]) -> None:
        super().__init__()
        self.change = change

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        return self.change(super().forward(vae, x, step), vae)


class WarmingUp(ELBO):
    """The usual bound, with a beta that rises from 0 to 1 over the first `steps` optimiser steps."""

    def __init__(self, steps: int = 20) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        terms = super().forward(vae, x, step)
        beta = (step / self.steps).clamp(max=1)
        return Terms(beta * terms.metrics["kl"] - terms.metrics["reconstruction"], terms.metrics)


def moved(terms: Terms, by: Tensor) -> Terms:
    """Return terms whose reconstruction is larger by so much for each example."""
    metrics = {
        name: value + by if name in ("elbo", "reconstruction") else value for name, value in terms.metrics.items()
    }
    return Terms(terms.loss - by, metrics)
