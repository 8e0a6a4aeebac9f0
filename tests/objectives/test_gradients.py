"""The gradients of the objectives, on a VAE whose log p(x) and bound are known in closed form."""

import pytest
import torch
import torch.distributions as td

from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.distributions import Normal
from vaelab.objectives import ELBO, IWAE, DReG, Renyi, ReweightedWakeSleep, StickingTheLanding, WakeSleep
from vaelab.objectives.weighted import warn_of_tails

STEP = torch.tensor(0)


def gradients(objective, vae, x, seed):
    """Return the gradient of the mean loss with respect to all parameters, as one vector."""
    torch.manual_seed(seed)
    vae.zero_grad()
    objective(vae, x, STEP).loss.mean().backward()
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in vae.parameters()])


def mean_and_error(objective, vae, x, repeats=30):
    """Return the mean gradient over 5 draws for each seed, and its standard error."""
    found = torch.stack([gradients(objective, vae, x.repeat(5, 1, 1, 1), seed) for seed in range(repeats)])
    return found.mean(0), found.std(0) / repeats**0.5


def exact_gradient(vae, x):
    """Return the gradient of minus the ELBO, whose expectation over q is known: p(x|z) is linear in z."""
    vae.zero_grad()
    q, loc = vae.encode(x).base_dist, vae.decoder.head.loc.linear
    scale = vae.decode(torch.zeros(1, vae.latent_dim, dtype=x.dtype)).base_dist.scale
    means = td.Normal(vae.decode(q.loc).base_dist.loc, scale).log_prob(x).sum((1, 2, 3))
    spread = ((loc.weight.square() @ q.scale.square().T).T / (2 * scale.flatten(1).square())).sum(-1)
    kl = td.kl_divergence(vae.encode(x), vae.latent_prior())
    (kl - means + spread).mean().backward()
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in vae.parameters()])


@pytest.fixture
def model():
    vae, _ = linear_gaussian(2, event_shape=(1, 2, 2), detune=0.3)
    vae.decoder.head.scale.layer.linear.weight.requires_grad_(False)  # so that p(x|z) has one scale, whatever z is
    torch.manual_seed(0)
    return vae, draw_data(vae, 20)


@pytest.mark.parametrize("make", [ELBO, lambda: ELBO(closed_form=False), lambda: Renyi(alpha=1, num_samples=3),
                                  StickingTheLanding, lambda: DReG(num_samples=1)])  # fmt: skip
def test_gradients_of_the_elbo_have_the_exact_mean(make, model):
    vae, x = model
    mean, error = mean_and_error(make(), vae, x)
    assert ((mean - exact_gradient(vae, x)).abs() < 4.5 * error + 1e-9).all()


def test_dreg_has_the_mean_gradient_of_iwae_with_less_noise(model):
    vae, x = model
    (plain, plain_error), (double, double_error) = [mean_and_error(kind(5), vae, x) for kind in (IWAE, DReG)]
    assert ((plain - double).abs() < 4.5 * (plain_error**2 + double_error**2).sqrt() + 1e-9).all()
    of_encoder = slice(sum(p.numel() for p in vae.encoder.parameters()))
    assert double_error[of_encoder].norm() < plain_error[of_encoder].norm()


def test_dreg_with_one_sample_is_sticking_the_landing(model):
    vae, x = model
    torch.testing.assert_close(gradients(DReG(1), vae, x, 0), gradients(StickingTheLanding(1), vae, x, 0))


def test_the_gradient_of_iwae_weighs_samples_by_constant_weights(model):
    vae, x = model

    class Detached(IWAE):
        def forward(self, vae, x, step):
            weights = self.weigh(vae, x)
            loss = -(weights.log_w.detach().softmax(0) * weights.log_w).sum(0)
            return self.terms(loss, loss, weights)

    torch.testing.assert_close(gradients(IWAE(7), vae, x, 0), gradients(Detached(7), vae, x, 0))


def test_sticking_the_landing_has_no_noise_at_the_posterior():
    vae, _ = linear_gaussian(2, event_shape=(1, 2, 2))
    torch.manual_seed(0)
    x = draw_data(vae, 20)
    of_encoder = slice(sum(p.numel() for p in vae.encoder.parameters()))
    for objective in (StickingTheLanding(), DReG(5)):
        assert gradients(objective, vae, x, 0)[of_encoder].abs().max() < 1e-10
    assert gradients(ELBO(), vae, x, 0)[of_encoder].abs().max() > 1e-3


def test_a_random_encoder_is_drawn_once(model):
    vae, x = model
    vae.encoder.network = torch.nn.Sequential(vae.encoder.network, torch.nn.Dropout(0.5))
    torch.manual_seed(0)
    plain = ELBO(closed_form=False)(vae, x, STEP).metrics["elbo"]
    torch.manual_seed(0)
    torch.testing.assert_close(StickingTheLanding()(vae, x, STEP).metrics["elbo"], plain)


def test_reweighted_wake_sleep_tends_to_the_gradient_of_log_evidence():
    vae, _ = linear_gaussian(2, event_shape=(1, 2, 2), detune=0.1)
    torch.manual_seed(0)
    x = draw_data(vae, 5)
    weight = vae.decoder.head.loc.linear.bias
    torch.manual_seed(0)
    vae.zero_grad()
    ReweightedWakeSleep(20_000)(vae, x, STEP).loss.mean().backward()
    w, scale = vae.decoder.head.loc.linear.weight.detach(), 0.5
    covariance = w @ w.T + scale**2 * torch.eye(4, dtype=x.dtype)
    exact = -torch.linalg.solve(covariance, (x.flatten(1) - weight.detach()).T).mean(1)
    torch.testing.assert_close(weight.grad, exact, rtol=0.02, atol=0.02)
    for parameter in vae.encoder.parameters():
        assert parameter.grad.isfinite().all()


def test_reweighted_wake_sleep_leaves_the_decoder_out_of_qs_loss(model):
    vae, x = model
    torch.manual_seed(0)
    q = vae.encode(x)
    z = q.sample((4,))
    log_w = vae.log_likelihood(x, z) + vae.latent_prior().log_prob(z) - q.log_prob(z)
    vae.zero_grad()
    (-(log_w.detach().softmax(0) * q.log_prob(z)).sum(0)).mean().backward()
    expected = [p.grad.clone() for p in vae.encoder.parameters()]
    gradients(ReweightedWakeSleep(4), vae, x, 0)
    for parameter, gradient in zip(vae.encoder.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_wake_sleep_trains_the_decoder_by_the_data_and_the_encoder_by_dreams(model):
    vae, x = model
    mean, error = mean_and_error(WakeSleep(), vae, x)
    of_encoder = sum(p.numel() for p in vae.encoder.parameters())
    wake = exact_gradient(vae, x)[of_encoder:]  # the KL of the ELBO has no part in the decoder's gradient
    assert ((mean[of_encoder:] - wake).abs() < 4.5 * error[of_encoder:] + 1e-9).all()

    torch.manual_seed(1)
    z = vae.latent_prior().sample((20_000,))
    vae.zero_grad()
    (-vae.encode(vae.decode(z).sample()).log_prob(z)).mean().backward()
    sleep = torch.cat([p.grad.flatten() for p in vae.encoder.parameters()])
    few = (20 * 5 * 30 / 20_000) ** 0.5  # the error of `sleep` beside that of `mean`
    assert ((mean[:of_encoder] - sleep).abs() < 4.5 * error[:of_encoder] * (1 + few) + 1e-9).all()


def test_the_sleep_phase_is_done_at_the_posterior_and_not_elsewhere(model):
    detuned, _ = model
    vae, _ = linear_gaussian(2, event_shape=(1, 2, 2))
    for candidate, done in ((vae, True), (detuned, False)):
        mean, error = mean_and_error(WakeSleep(), candidate, draw_data(candidate, 20))
        of_encoder = slice(sum(p.numel() for p in candidate.encoder.parameters()))
        assert (mean[of_encoder].abs() < 4.5 * error[of_encoder] + 1e-9).all() == done


def test_reweighted_wake_sleep_follows_no_sample(model, monkeypatch):
    vae, x = model
    drawn, rsample = [], Normal.rsample
    monkeypatch.setattr(Normal, "rsample", lambda *args: drawn.append(rsample(*args)) or drawn[-1])
    ReweightedWakeSleep(4)(vae, x, STEP)
    assert [z.requires_grad for z in drawn] == [False]


def test_renyi_meets_its_neighbours(model):
    vae, x = model
    losses = {}
    for name, objective in {"iwae": IWAE(6), "zero": Renyi(0, 6), "near 1": Renyi(1 - 1e-7, 6), "one": Renyi(1, 6),
                            "half": Renyi(0.5, 6)}.items():  # fmt: skip
        torch.manual_seed(0)
        losses[name] = objective(vae, x, STEP)
    torch.testing.assert_close(losses["zero"].loss, losses["iwae"].loss)
    torch.testing.assert_close(losses["near 1"].loss, losses["one"].loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses["one"].loss, -losses["one"].metrics["elbo"])
    assert (losses["iwae"].loss <= losses["half"].loss).all()
    assert (losses["half"].loss <= losses["one"].loss).all()


def test_a_negative_alpha_reports_no_bound(model):
    vae, x = model
    objective = Renyi(-1, 3)
    assert not objective.has_own_bound
    assert "bound" not in objective(vae, x, STEP).metrics


def test_alpha_above_one_says_once_what_to_look_at(caplog):
    warn_of_tails.cache_clear()
    Renyi(2, 3), Renyi(2, 3)
    assert caplog.text.count("test/pareto_k") == 1


def test_groups_of_samples_lie_between_the_elbo_and_one_group():
    vae, log_evidence = linear_gaussian(2, detune=0.4)
    torch.manual_seed(0)
    x = draw_data(vae, 500)
    with torch.no_grad():
        bounds = [o(vae, x, STEP).metrics["bound"].mean() for o in (IWAE(1, 16), IWAE(4, 4), IWAE(16, 1))]
    assert bounds[0] < bounds[1] < bounds[2] < log_evidence(x).mean()
