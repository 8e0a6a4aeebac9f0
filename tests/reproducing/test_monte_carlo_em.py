"""Monte Carlo EM against the closed forms of a linear-Gaussian model."""

import math

import pytest
import torch

from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.reproducing.monte_carlo_em import Chains, monte_carlo_em


@pytest.fixture(scope="module")
def advanced():
    """The posterior of 3 examples; the z of 300 chains of each and the acceptance rates, after 15 transitions."""
    torch.manual_seed(0)
    vae, _ = linear_gaussian(2, event_shape=(1, 2, 2))
    x = draw_data(vae, 3)
    chains = Chains(vae, x.repeat(300, 1, 1, 1), num_leapfrogs=4)
    for _ in range(15):
        chains.advance()
    rates, z = zip(*[(chains.advance()[0], chains.z) for _ in range(12)], strict=True)
    return vae.encode(x).base_dist, torch.cat(z).reshape(12, 300, 3, 2), rates


def test_e_steps_sample_the_exact_posterior(advanced):
    posterior, z, _ = advanced
    means, squares = z.mean(0), (z - posterior.mean).square().mean(0)  # of each chain, [300, 3, 2]
    for found, exact in ((means, posterior.mean), (squares, posterior.variance)):
        assert ((found.mean(0) - exact).abs() < 4 * found.std(0) / 300**0.5).all()
    assert (squares.mean(0) / posterior.variance - 1).abs().max() < 0.1


def test_the_step_size_tunes_to_ninety_percent_acceptance(advanced):
    *_, rates = advanced
    assert abs(sum(rates) / len(rates) - 0.9) < 0.03


@pytest.fixture
def untrained():
    """A model whose decoder knows nothing but the noise, data of two factors, and their log p(x)."""
    torch.manual_seed(0)
    vae, _ = linear_gaussian(2, event_shape=(1, 2, 2))
    x = draw_data(vae, 100)
    head = vae.decoder.head
    head.scale.requires_grad_(False)
    torch.nn.init.normal_(head.loc.linear.weight, std=0.01)
    torch.nn.init.zeros_(head.loc.linear.bias)

    def log_evidence():
        w, b = head.loc.linear.weight.detach(), head.loc.linear.bias.detach()
        covariance = w @ w.T + 0.25 * torch.eye(4, dtype=w.dtype)
        return torch.distributions.MultivariateNormal(b, covariance).log_prob(x.flatten(1)).mean().item()

    return vae, x, log_evidence


def highest_log_evidence(x, variance=0.25, latent_dim=2):
    """Return the maximum over W and b: probabilistic PCA, Tipping & Bishop (1999), with a known variance of noise."""
    spectrum = torch.linalg.eigvalsh(x.flatten(1).T.cov(correction=0)).flip(0)
    fitted = torch.cat([spectrum[:latent_dim].clamp(min=variance), torch.full((4 - latent_dim,), variance)])
    return -((2 * math.pi * fitted).log() + spectrum / fitted).sum().item() / 2


def test_training_reaches_the_highest_log_evidence(untrained):
    vae, x, log_evidence = untrained
    highest = highest_log_evidence(x)
    assert log_evidence() < highest - 5
    for _ in monte_carlo_em(vae, x, num_steps=15, lr=0.4, seed=0, num_leapfrogs=3, batch_size=50):
        pass
    assert highest - 0.1 < log_evidence() < highest


def test_a_seed_repeats_the_training_whatever_is_drawn_between(untrained):
    def trained():
        vae, x, _ = untrained
        vae.load_state_dict(start)
        progress = [(torch.rand(torch.randint(9, ())), step)[1] for step in monte_carlo_em(vae, x, 3, lr=0.1, seed=4)]
        return progress, torch.cat([p.detach().flatten().clone() for p in vae.parameters()])

    start = {name: value.clone() for name, value in untrained[0].state_dict().items()}
    torch.manual_seed(1)
    (first, weights), (again, repeated) = trained(), trained()
    assert first == again
    assert (weights == repeated).all()


def test_a_discrete_latent_is_refused(untrained):
    vae, x, _ = untrained
    vae.encoder.head.discrete = True
    with pytest.raises(ValueError, match="needs a continuous z: it follows gradients in z, but z is discrete"):
        next(monte_carlo_em(vae, x, 1, lr=0.1, seed=0))


def test_samples_are_counted_in_both_ways(untrained):
    vae, x, _ = untrained
    encoder = [p.clone() for p in vae.encoder.parameters()]
    *_, last = monte_carlo_em(vae, x[:70], num_steps=3, lr=0.1, seed=0, num_leapfrogs=2, batch_size=50)
    sizes = 7 * (50 + 20) + 50  # 15 minibatches
    assert (last.samples_seen, last.samples_evaluated) == (sizes, sizes + 3 * 3 * 70)
    assert all((a == b).all() for a, b in zip(encoder, vae.encoder.parameters(), strict=True))
