"""A prior on the weights of the generative model."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.vae import VAE


class NormalWeightPrior(nn.Module):
    """A prior p(theta) = N(0, scale^2 I) on the weights of the decoder and the prior; forward is -log p(theta) in nats.

    Training adds `-log p(theta) / N` to the loss of each example, where N is the number of training examples. This is
    maximum a posteriori estimation: section 5 of Kingma & Welling (2014), where theta are the generative
    parameters. The reported bound does not change. The density's normalising constant is left out.

    Args:
        scale: the standard deviation of a weight under p(theta).

    Raises:
        ValueError: `scale` is not positive.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"weight_prior.scale must be positive, found {scale}")
        self.scale = scale

    def forward(self, vae: VAE) -> Float[Tensor, ""]:
        parameters = nn.ModuleList([vae.decoder, vae.prior]).parameters()
        squares = [parameter.square().sum() for parameter in parameters]
        return torch.stack(squares).sum() / (2 * self.scale**2)
