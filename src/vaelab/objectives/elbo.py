"""The evidence lower bound."""

from torch import Tensor

from vaelab.distributions import draw
from vaelab.metric import Metric
from vaelab.objectives.base import Objective, Terms, kl_divergence, mean_over_samples
from vaelab.vae import VAE, Image


class ELBO(Objective):
    """The evidence lower bound: equation 3, in section 2.2, of Kingma & Welling (2014).

    `L = E_q[log p(x|z)] - KL(q(z|x) || p(z))`. The loss is `-(E_q[log p(x|z)] - beta KL)`. A beta other than 1 (Higgins
    et al. 2017) changes the loss, but not the reported metrics.

    Args:
        closed_form: compute the KL in closed form if there is one (estimator B of the paper, equation 7), not from
            samples (A, equation 6).
        num_samples: samples of z per example.
        beta: weight of the KL in the loss.

    Raises:
        ValueError: `num_samples` is below 1, or `beta` is negative.

    Examples:
        >>> import torch
        >>> from vaelab import heads, networks, priors
        >>> from vaelab.vae import Conditional
        >>> z, x = (2,), (1, 28, 28)
        >>> encoder = Conditional(x, z, networks.MLP, heads.DiagonalGaussian)
        >>> decoder = Conditional(z, x, networks.MLP, heads.Bernoulli)
        >>> vae = VAE(encoder, decoder, priors.StandardNormal(z, x))
        >>> ELBO()(vae, torch.ones(5, *x), step=torch.tensor(0)).loss.shape
        torch.Size([5])
    """

    metrics = (
        Metric("elbo", "ELBO", better="higher", meaning="the evidence lower bound of log p(x), whatever is trained"),
        Metric("reconstruction", "reconstruction", better="higher", meaning="E_q[log p(x|z)]"),
        Metric("kl", "KL", meaning="KL(q(z|x) || p(z)), so that elbo = reconstruction - kl"),
    )

    def __init__(self, closed_form: bool = True, num_samples: int = 1, beta: float = 1.0) -> None:
        super().__init__()
        if not isinstance(num_samples, int) or num_samples < 1:
            raise ValueError(f"objective.num_samples must be a whole number of at least 1, found {num_samples!r}")
        if not beta >= 0:
            raise ValueError(f"objective.beta must be 0 or more, found {beta}")
        self.closed_form = closed_form
        self.num_samples = num_samples
        self.beta = beta

    def forward(self, vae: VAE, x: Image, step: Tensor) -> Terms:
        q = vae.encode(x)
        z, log_q = draw(q, () if self.num_samples == 1 else (self.num_samples,))  # an axis of size 1 would be slower
        reconstruction = mean_over_samples(vae.decoder.log_prob(x, z), q.batch_shape)
        kl = kl_divergence(q, vae.latent_prior(), z, log_q, self.closed_form)
        loss = (kl if self.beta == 1 else self.beta * kl) - reconstruction
        return Terms(loss, {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl})
