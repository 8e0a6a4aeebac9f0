"""log p(x|z) and log p(z) for many z, computed in parts that respect a memory budget."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vaelab.vae import VAE, Image

CACHED = 800_000  # elements; fewer waste time on calls, and more do not stay in a CPU's cache
PROBES = 16  # z whose log p(z) is computed to count elements; with so many, the elements of weights hardly count
Samples = Float[Tensor, "samples batch latent_dim"]
PerSample = Float[Tensor, "samples batch"]
Density = Callable[[slice, Samples], Tensor]  # of z for the examples of a slice


class Densities:
    """log p(x|z) and log p(z) in nats for samples z of each example of a batch x, `[samples, batch, latent_dim]`.

    At most `max_events` images are decoded at once, such that no module returns a tensor of more than `max_elements`.
    log p(z) is computed for at most `max_latents` z at once, such that no operation makes a larger tensor; a prior with
    K components makes at least K elements for each z. On a CPU the limit is at most `CACHED`.

    Args:
        vae: the model, whose prior is computed once.
        x: the examples.
        max_elements: see above. One z is always allowed.
    """

    def __init__(self, vae: VAE, x: Image, max_elements: int) -> None:
        self.vae, self.x, self.prior = vae, x, vae.latent_prior()
        limit = min(max_elements, CACHED) if x.device.type == "cpu" else max_elements
        z = next(vae.decoder.parameters()).new_zeros(PROBES, vae.latent_dim)
        self.max_events = max(1, limit // max(x[:1].numel(), largest_output(vae, z[:1])))
        with Largest() as largest:
            self.prior.log_prob(z)
        self.max_latents = max(1, limit * PROBES // largest.elements)

    def log_likelihood(self, z: Samples) -> PerSample:
        """Return log p(x|z)."""
        return self._values(self._likelihood, z, self.max_events)

    def log_prior(self, z: Samples) -> PerSample:
        """Return log p(z)."""
        return self._values(self._prior, z, self.max_latents)

    def gradient_of_log_likelihood(self, z: Samples) -> tuple[PerSample, Samples]:
        """Return log p(x|z) and its gradient with respect to z."""
        return self._gradients(self._likelihood, z, self.max_events)

    def gradient_of_log_prior(self, z: Samples) -> tuple[PerSample, Samples]:
        """Return log p(z) and its gradient."""
        return self._gradients(self._prior, z, self.max_latents)

    def _likelihood(self, rows: slice, z: Samples) -> Tensor:
        return self.vae.log_likelihood(self.x[rows], z)

    def _prior(self, rows: slice, z: Samples) -> Tensor:
        return self.prior.log_prob(z)

    def _values(self, density: Density, z: Samples, most: int) -> PerSample:
        values = z.new_empty(z.shape[:2])
        for samples, rows in parts(z, most):
            values[samples, rows] = density(rows, z[samples, rows])
        return values

    def _gradients(self, density: Density, z: Samples, most: int) -> tuple[PerSample, Samples]:
        values, gradient = z.new_empty(z.shape[:2]), torch.empty_like(z)
        for samples, rows in parts(z, most):
            with torch.enable_grad():
                part = z[samples, rows].detach().requires_grad_()
                value = density(rows, part)
                (gradient[samples, rows],) = torch.autograd.grad(value.sum(), part)
            values[samples, rows] = value.detach()
        return values, gradient


def parts(z: Samples, most: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of the samples and of the batch, with at most `most` z."""
    num_samples, batch = z.shape[:2]
    rows = min(batch, most)
    samples = most // rows
    for row in range(0, batch, rows):
        for sample in range(0, num_samples, samples):
            yield slice(sample, sample + samples), slice(row, row + rows)


def largest_output(vae: VAE, z: Tensor) -> int:
    """Return the number of elements of the largest tensor that a module returns when the decoder is called."""
    sizes = [1]

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    with register_module_forward_hook(note):
        vae.decode(z)
    return max(sizes)


class Largest(TorchDispatchMode):
    """Note the number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            self.elements = max(self.elements, leaf.numel() if isinstance(leaf, Tensor) else 1)
        return result
