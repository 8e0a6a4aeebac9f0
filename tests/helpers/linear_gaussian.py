"""A VAE with a closed-form answer: p(z) = N(0, I), p(x|z) = N(W z + b, s^2 I), and q(z|x) exact or not.

With orthogonal columns of W the posterior's covariance is diagonal, so the diagonal encoder can be exact:
`S_j = s^2 / (s^2 + |w_j|^2)`, `m_j = w_j . (x - b) / (s^2 + |w_j|^2)`; and log p(x) = log N(x; b, W W^T + s^2 I).
"""

import math
from functools import partial

import torch
from scipy.stats import multivariate_normal
from torch import Tensor, nn

from vaelab.heads import DiagonalGaussian, FullGaussian
from vaelab.hierarchical import make_hierarchical_vae
from vaelab.networks import Network
from vaelab.priors import StandardNormal
from vaelab.vae import VAE, Conditional


class Flat(Network):
    """The context itself as features."""

    def __init__(self, context_shape, event_shape) -> None:
        super().__init__(context_shape, event_shape, (math.prod(context_shape),))

    def forward(self, context: Tensor) -> Tensor:
        return context.flatten(-len(self.context_shape))


def linear_gaussian(latent_dim: int, event_shape=(1, 4, 5), scale: float = 0.5, seed: int = 0, detune: float = 0.0):
    """The VAE in float64, and a function that gives log p(x); `detune` moves q away from the posterior."""
    rng = torch.Generator().manual_seed(seed)
    size = math.prod(event_shape)
    basis = torch.linalg.qr(torch.randn(size, latent_dim, generator=rng, dtype=torch.float64)).Q
    w = basis * torch.linspace(0.5, 2, latent_dim, dtype=torch.float64)
    b = torch.randn(size, generator=rng, dtype=torch.float64)
    vae = VAE(
        Conditional(event_shape, (latent_dim,), Flat, DiagonalGaussian),
        Conditional((latent_dim,), event_shape, Flat, DiagonalGaussian),
        StandardNormal((latent_dim,), event_shape),
    ).double()
    precision = scale**2 + w.square().sum(0)
    with torch.no_grad():
        decoder, encoder = vae.decoder.head, vae.encoder.head
        decoder.loc.linear.weight.copy_(w)
        decoder.loc.linear.bias.copy_(b)
        decoder.scale.layer.linear.weight.zero_()
        decoder.scale.layer.linear.bias.fill_(2 * math.log(scale))
        encoder.loc.linear.weight.copy_((w / precision).T)
        encoder.loc.linear.bias.copy_(-(w / precision).T @ b + detune)
        encoder.scale.layer.linear.weight.zero_()
        encoder.scale.layer.linear.bias.copy_((scale**2 / precision).log() + detune)
    covariance = (w @ w.T + scale**2 * torch.eye(size, dtype=torch.float64)).numpy()

    def log_evidence(x: Tensor) -> Tensor:
        return torch.as_tensor(multivariate_normal(b.numpy(), covariance).logpdf(x.flatten(1).numpy()))

    return vae, log_evidence


def two_layers(scale: float = 0.5, seed: int = 0, detune: float = 0.0):
    """A VAE with two layers in float64, and a function that gives log p(x); `detune` moves q away from the posterior.

    p(h2) = N(0, I), p(h1|h2) = N(A h2 + a, S), p(x|h1) = N(W h1 + b, s^2 I). So p(h1) = N(a, P) with P = A A^T + S,
    p(x) = N(W a + b, W P W^T + s^2 I), and p(h1|x) and p(h2|h1) are Gaussians with full covariances.
    """
    rng = torch.Generator().manual_seed(seed)
    w, a_matrix, a, b, s1 = (torch.randn(n, generator=rng, dtype=torch.float64) for n in ((4, 2), (2, 2), 2, 4, 2))
    variance = 0.3 + s1.square()
    encoder = partial(Conditional, head=partial(FullGaussian, min_scale=0))
    decoder = partial(Conditional, head=DiagonalGaussian)
    vae = make_hierarchical_vae((1, 2, 2), 2, encoder, decoder, StandardNormal, Flat, Flat, 2, Flat).double()
    marginal = a_matrix @ a_matrix.T + variance.diag()
    of_h1 = torch.linalg.inv(torch.linalg.inv(marginal) + w.T @ w / scale**2)
    of_h2 = torch.linalg.inv(torch.eye(2) + a_matrix.T @ (a_matrix / variance[:, None]))
    gain1, gain2 = of_h1 @ w.T / scale**2, of_h2 @ a_matrix.T / variance
    q = vae.encoder.head
    normal_given(q.first, gain1, of_h1 @ torch.linalg.solve(marginal, a) - gain1 @ b + detune, of_h1)
    normal_given(q.above[0].head, gain2, -gain2 @ a + detune, of_h2)
    normal_given(
        vae.prior.below[0].head, a_matrix, a, (variance - 1e-6).diag()
    )  # the head adds the square of its floor
    normal_given(vae.decoder.head, w, b, scale**2 * torch.eye(4))
    covariance = w @ marginal @ w.T + scale**2 * torch.eye(4)

    def log_evidence(x: Tensor) -> Tensor:
        return torch.as_tensor(multivariate_normal(w @ a + b, covariance).logpdf(x.flatten(1)))

    return vae, log_evidence


@torch.no_grad()
def normal_given(head: nn.Module, weight: Tensor, bias: Tensor, covariance: Tensor) -> None:
    """Make a head the distribution N(weight c + bias, covariance) of the features c."""
    tril = torch.linalg.cholesky(covariance.double())
    head.loc.linear.weight.copy_(weight)
    head.loc.linear.bias.copy_(bias)
    head.scale.layer.linear.weight.zero_()
    head.scale.layer.linear.bias.copy_(2 * tril.diagonal().log())
    if isinstance(head, FullGaussian):
        head.below.linear.weight.zero_()
        head.below.linear.bias.copy_(tril.flatten())


def correlate(vae: VAE) -> Tensor:
    """Rotate the latent of a `linear_gaussian`, which leaves p(x) as it is; return the precision P of p(z|x).

    q becomes the best diagonal Gaussian: its means are those of p(z|x), and its variances are 1 / P_jj.
    """
    decoder, encoder = vae.decoder.head, vae.encoder.head
    latent_dim = vae.latent_dim
    rng = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(latent_dim, latent_dim, generator=rng, dtype=torch.float64)).Q
    with torch.no_grad():
        precision = rotation.T @ torch.diag(1 / encoder.scale.layer.linear.bias.exp()) @ rotation
        decoder.loc.linear.weight.copy_(decoder.loc.linear.weight @ rotation)
        for parameter in (encoder.loc.linear.weight, encoder.loc.linear.bias):
            parameter.copy_(rotation.T @ parameter)
        encoder.scale.layer.linear.bias.copy_(-precision.diagonal().log())
    return precision


def draw_data(vae: VAE, n: int) -> Tensor:
    """x ~ p(x)."""
    with torch.no_grad():
        return vae.decode(vae.latent_prior().sample((n,))).sample()


def coverage(estimator, vae, log_evidence, examples: int, repeats: int):
    """Return how often the mean over a small data set lies within 1.96 stated errors of the truth, and the estimate."""
    x = draw_data(vae, examples)
    estimate = estimator(vae, x.repeat(repeats, 1, 1, 1))
    errors = estimate.standard_error.reshape(repeats, examples).square().sum(1).sqrt() / examples
    gaps = estimate.log_likelihood.reshape(repeats, examples).mean(1) - log_evidence(x).mean()
    return (gaps.abs() < 1.96 * errors).double().mean().item(), estimate
