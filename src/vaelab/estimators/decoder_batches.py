"""log p(x|z) for many z, computed in parts that respect a memory budget."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.vae import VAE, Image

CACHED = 200_000  # elements of a tensor that a CPU's cache holds between two operations
CACHED_GRADIENT = 400_000  # larger, because a backward pass has more calls, each with a fixed cost
Samples = Float[Tensor, "samples batch latent_dim"]


def log_likelihood(vae: VAE, x: Image, z: Samples, max_elements: int) -> Float[Tensor, "samples batch"]:
    """Return log p(x|z) in nats. Each decoder output has at most `max_elements` elements, or is a single event."""
    values = z.new_empty(z.shape[:2])
    for rows, samples in parts(z.shape[0], x, max_elements):
        values[samples, rows] = vae.decoder.log_prob(x[rows], z[samples, rows])
    return values


def parts(num_samples: int, x: Image, max_elements: int, cached: int = CACHED) -> Iterator[tuple[slice, slice]]:
    """Yield slices of the batch and of the samples, such that a decoder output has at most `max_elements` elements.

    On a CPU it has at most `cached` elements, because more do not fit in the cache.
    """
    if x.device.type == "cpu":
        max_elements = min(max_elements, cached)
    pixels = max(1, x[:1].numel())
    rows = max(1, min(len(x), max_elements // pixels))
    samples = max(1, max_elements // (rows * pixels))
    for row in range(0, len(x), rows):
        for sample in range(0, num_samples, samples):
            yield slice(row, row + rows), slice(sample, sample + samples)


def gradient_of_log_likelihood(
    vae: VAE, x: Image, z: Samples, max_elements: int
) -> tuple[Float[Tensor, "samples batch"], Samples]:
    """Return log p(x|z) in nats and its gradient with respect to z, with the memory limit of `log_likelihood`."""
    values, gradient = z.new_empty(z.shape[:2]), torch.empty_like(z)
    for rows, samples in parts(z.shape[0], x, max_elements, CACHED_GRADIENT):
        with torch.enable_grad():
            part = z[samples, rows].detach().requires_grad_()
            value = vae.decoder.log_prob(x[rows], part)
            (gradient[samples, rows],) = torch.autograd.grad(value.sum(), part)
        values[samples, rows] = value.detach()
    return values, gradient
