"""The contract of a prior p(z)."""

from collections.abc import Callable, Sequence

import torch
import torch.distributions as td
from torch import Tensor, nn

Encode = Callable[[Tensor], td.Distribution]
STEPS, BATCH, RATE = 2000, 500, 5e-3  # of Adam in `fit`; the rate falls to 0


class Prior(nn.Module):
    """Base class of the priors p(z): a module whose forward returns a distribution over the latent.

    Args:
        latent_shape: shape of one z, the `event_shape` of p(z).
        event_shape: shape of one x, for priors that hold pseudo-inputs.
    """

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int]) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        self.event_shape = tuple(event_shape)

    def forward(self, encode: Encode) -> td.Distribution:
        """Return p(z), with batch shape ().

        Args:
            encode: the encoder, which maps x, scaled to [0, 1] whatever the likelihood, to q(z|x). A prior may call it,
                as VampPrior does, but must not keep it, because the encoder's parameters would then be saved twice, and
                the weight prior would apply to them.
        """
        raise NotImplementedError

    def initialize(self, draw: Callable[[int], Tensor]) -> None:
        """Begin at training data, if this prior can. Called before weights are trained or loaded.

        Args:
            draw: returns so many training examples, drawn at random and scaled as for `encode`, `[n, *event_shape]`.
        """

    def fit(self, encode: Encode, z: Tensor) -> None:
        """Fit the parameters of this prior to samples by maximum likelihood, after the training of a model.

        Adam maximises the mean of log p(z) over minibatches, which the global generator draws. A subclass that has a
        better way overrides this.

        Args:
            encode: the trained encoder, as in `forward`; it does not change.
            z: the samples, `[num_samples, *latent_shape]`.
        """
        parameters = list(self.parameters())
        optimizer = torch.optim.Adam(parameters)
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            with torch.enable_grad():
                loss = -self(encode).log_prob(z[torch.randint(len(z), (BATCH,))]).mean()
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
            optimizer.step()
