"""log p(x, z) of many z at once, in parts that hold a budget of memory."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.vae import VAE, Image

CACHED = 200_000  # numbers that a CPU's cache can keep from one operation to the next
CACHED_GRADIENT = 400_000  # a gradient has more operations to call, which costs as well
Samples = Float[Tensor, "samples batch latent_dim"]


def log_joint(vae: VAE, x: Image, z: Samples, max_elements: int) -> Float[Tensor, "samples batch"]:
    """log p(x, z) in nats; no call of the decoder gives more than `max_elements` numbers, or one event."""
    return vae.latent_prior().log_prob(z) + log_likelihood(vae, x, z, max_elements)


def log_likelihood(vae: VAE, x: Image, z: Samples, max_elements: int) -> Float[Tensor, "samples batch"]:
    """log p(x|z) in nats, likewise."""
    found = z.new_empty(z.shape[:2])
    for rows, samples in parts(z.shape[0], x, max_elements):
        found[samples, rows] = vae.decoder.log_prob(x[rows], z[samples, rows])
    return found


def parts(num_samples: int, x: Image, max_elements: int, cached: int = CACHED) -> Iterator[tuple[slice, slice]]:
    """Slices of the batch and of the samples, so small that samples times pixels of each pair hold the budget.

    On a CPU they are small enough for its cache, whatever the budget.
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
    """log p(x|z), and its gradient in z, likewise in parts."""
    values, gradient = z.new_empty(z.shape[:2]), torch.empty_like(z)
    for rows, samples in parts(z.shape[0], x, max_elements, CACHED_GRADIENT):
        with torch.enable_grad():
            part = z[samples, rows].detach().requires_grad_()
            value = vae.decoder.log_prob(x[rows], part)
            (gradient[samples, rows],) = torch.autograd.grad(value.sum(), part)
        values[samples, rows] = value.detach()
    return values, gradient
