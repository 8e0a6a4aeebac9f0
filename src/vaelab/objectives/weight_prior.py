"""A prior on the weights of the generative model."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.vae import VAE


class NormalWeightPrior(nn.Module):
    """-log p(theta) in nats for p(theta) = N(0, scale^2 I) on the weights of the generative model (decoder, prior).

    Added as `-log p(theta) / N` to the loss per example, N the number of training examples, it makes training maximum
    a posteriori: section 5 of Kingma & Welling (2014), where theta are the generative parameters. It never touches
    the bound. The constant of the density is left out.

    Raises:
        ValueError: a `scale` that is not positive.
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
