"""log p(x|z) for many z, computed in parts that respect a memory budget."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from vaelab.vae import VAE, Image

CACHED = 800_000  # elements; fewer waste time on calls, and more do not stay in a CPU's cache
Samples = Float[Tensor, "samples batch latent_dim"]


def most_events(vae: VAE, x: Image, max_elements: int) -> int:
    """Return how many events to decode at once, such that no module returns a tensor of more than `max_elements`.

    On a CPU the limit is at most `CACHED`.
    """
    sizes = [x[:1].numel()]

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    with register_module_forward_hook(note):
        vae.decode(next(vae.decoder.parameters()).new_zeros(1, vae.latent_dim))
    limit = min(max_elements, CACHED) if x.device.type == "cpu" else max_elements
    return max(1, limit // max(sizes))


def log_likelihood(vae: VAE, x: Image, z: Samples, max_events: int) -> Float[Tensor, "samples batch"]:
    """Return log p(x|z) in nats. At most `max_events` events are decoded at once."""
    values = z.new_empty(z.shape[:2])
    for rows, samples in parts(z.shape[0], x, max_events):
        values[samples, rows] = vae.log_likelihood(x[rows], z[samples, rows])
    return values


def parts(num_samples: int, x: Image, max_events: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of the batch and of the samples, of at most `max_events` events."""
    rows = min(len(x), max_events)
    samples = max_events // rows
    for row in range(0, len(x), rows):
        for sample in range(0, num_samples, samples):
            yield slice(row, row + rows), slice(sample, sample + samples)


def gradient_of_log_likelihood(
    vae: VAE, x: Image, z: Samples, max_events: int
) -> tuple[Float[Tensor, "samples batch"], Samples]:
    """Return log p(x|z) in nats and its gradient with respect to z, with the memory limit of `log_likelihood`."""
    values, gradient = z.new_empty(z.shape[:2]), torch.empty_like(z)
    for rows, samples in parts(z.shape[0], x, max_events):
        with torch.enable_grad():
            part = z[samples, rows].detach().requires_grad_()
            value = vae.log_likelihood(x[rows], part)
            (gradient[samples, rows],) = torch.autograd.grad(value.sum(), part)
        values[samples, rows] = value.detach()
    return values, gradient
