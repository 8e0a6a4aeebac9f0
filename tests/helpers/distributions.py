"""What every distribution must satisfy: it sums or integrates to 1, and its samples have its moments."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributions as td

from vaelab.distributions import domain
from vaelab.randomness import drawing_from
from vaelab.vae import VAE

MANY = 5_000  # integers beyond which no mass is looked for, where a support has no end


def assert_total_is_one(p: td.Distribution) -> None:
    """Assert it of a float64 distribution over events of a single element, `batch_shape` ()."""
    support: Any = domain(p)
    assert support is not None
    lower, upper = getattr(support, "lower_bound", -math.inf), getattr(support, "upper_bound", math.inf)
    if support.is_discrete:
        if (size := p.event_shape.numel()) > 1:  # one-hot vectors
            values = torch.tensor(list(itertools.product((0.0, 1.0), repeat=size)), dtype=torch.float64)
            values = values[p.support.check(values)]
        else:
            first, last = (0, 1) if support is td.constraints.boolean else (int(lower), int(min(upper, lower + MANY)))
            values = torch.arange(first, last + 1, dtype=torch.float64).view(-1, *p.event_shape)
        assert math.isclose(p.log_prob(values).exp().sum().item(), 1, abs_tol=1e-9)
        return
    draws = p.sample((1000,)).double().flatten()
    inner = torch.quantile(draws, torch.linspace(0, 1, 9, dtype=torch.float64)).tolist()

    ends = sorted({float(lower), *inner, float(upper)})
    parts = [quadrature(a, b, inner[-1] - inner[0]) for a, b in itertools.pairwise(ends)]
    grid, steps = (torch.cat(column) for column in zip(*parts, strict=True))
    total = (p.log_prob(grid.view(-1, *p.event_shape)).exp().flatten() * steps).sum().item()
    assert math.isclose(total, 1, abs_tol=1e-7)


def quadrature(a: float, b: float, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points between a and b, one of which may be infinite, and the weights that integrate a function there."""
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(10))
    starts = torch.arange(40, dtype=torch.float64).unsqueeze(1)
    u, w = ((starts + (nodes + 1) / 2) / 40).flatten(), (weights / 80).repeat(40)
    if math.isfinite(b - a):  # the points are closest at the ends, where a density may be infinite
        return a + (b - a) * u**2 * (3 - 2 * u), (b - a) * 6 * u * (1 - u) * w
    tail = scale * u / (1 - u)
    return (a + tail if math.isfinite(a) else b - tail), scale * w / (1 - u) ** 2


def assert_samples_have_its_moments(p: td.Distribution, num_samples: int = 20_000) -> None:
    """Assert that mean and variance of samples are those that the distribution says, where it says any."""
    draws = p.sample((num_samples,)).double()
    try:
        mean, variance = p.mean.double(), p.variance.double()
    except NotImplementedError:  # as a flow has none
        return
    known = mean.isfinite() & variance.isfinite()
    error = (variance / num_samples).sqrt()
    assert ((draws.mean(0) - mean).abs() <= 5 * error)[known].all()
    fourth = (draws - draws.mean(0)).pow(4).mean(0)
    error = ((fourth - variance.square()).clamp_min(0) / num_samples).sqrt()
    assert ((draws.var(0) - variance).abs() <= 6 * error + 30 * variance / num_samples)[known].all()


def assert_ranks_are_uniform(histograms: torch.Tensor, expected: torch.Tensor | None = None) -> None:
    """Assert it of the mean of per-example histograms, within their error; or that it is the expected one."""
    histograms = histograms.double()
    assert torch.allclose(histograms.sum(1), torch.ones_like(histograms[:, 0]), rtol=1e-5)
    right = torch.full((histograms.shape[1],), 1 / histograms.shape[1]) if expected is None else expected
    error = histograms.std(0) / math.sqrt(len(histograms))
    assert ((histograms.mean(0) - right).abs() < 4 * error).all()


def assert_stacked_models_draw_alone(draw: Callable[[torch.Tensor], torch.Tensor], parameters: torch.Tensor) -> None:
    """Assert that each of several stacked models draws what it draws alone; `parameters` has an entry for each."""
    seeds = range(1, 1 + len(parameters))
    with drawing_from([torch.Generator().manual_seed(seed) for seed in seeds]):
        stacked = torch.vmap(draw, randomness="error")(parameters)
    for found, seed, own in zip(stacked, seeds, parameters, strict=True):
        torch.manual_seed(seed)
        torch.testing.assert_close(found, draw(own))


class WithoutMean(td.Independent):
    """A distribution that does not tell its mean, as a flow."""

    @property
    def mean(self) -> torch.Tensor:
        raise NotImplementedError


def without_mean(monkeypatch: pytest.MonkeyPatch, vae: VAE) -> None:
    """Let a decoder of independent pixels return distributions without a mean."""
    head = vae.decoder.head
    forward, axes = head.forward, len(head.event_shape)
    monkeypatch.setattr(head, "forward", lambda h: WithoutMean(forward(h).base_dist, axes, validate_args=False))
