"""The two parts of the inference gap, on a linear model where both have a closed form."""

import math

import pytest
import torch
import torch.distributions as td

from tests.helpers.linear_gaussian import correlate, draw_data, linear_gaussian
from vaelab.evaluation.inference_gap import gap_summary, gap_values


@pytest.mark.parametrize("detune", [0.0, 0.4])
@torch.no_grad()
def test_both_parts_are_those_of_a_linear_model(detune):
    vae, log_evidence = linear_gaussian(3)
    precision = correlate(vae)
    vae.encoder.head.loc.linear.bias += detune
    vae.encoder.head.scale.layer.linear.bias += detune  # of the log variance
    x = draw_data(vae, 50)
    found = gap_values(vae, x)
    # KL(best diagonal || posterior), and how much more KL(q || posterior) is
    approximation = (precision.diagonal().log().sum() - precision.logdet()) / 2
    amortisation = (3 * (math.exp(detune) - 1 - detune) + detune**2 * precision.sum()) / 2
    assert approximation > 0.3
    for values, expected in (
        (log_evidence(x) - found["fitted_elbo"], approximation),
        (found["amortization_gap"], amortisation),
    ):
        error = values.std().item() / math.sqrt(len(x))
        assert abs(values.mean() - expected) < 4 * error + 0.02


@torch.no_grad()
def test_the_choice_between_both_ends_adds_nothing():
    vae, _ = linear_gaussian(3)
    correlate(vae)  # the encoder is the best one already, so whatever differs is noise
    x = draw_data(vae, 200)
    gap = gap_values(vae, x)["amortization_gap"]
    assert (gap == 0).any()
    assert (gap != 0).any()
    assert gap.mean() < 3 * gap.std() / math.sqrt(len(x))


@torch.no_grad()
def test_the_rate_is_that_of_the_best_posterior():
    vae, _ = linear_gaussian(2)
    x = draw_data(vae, 100)
    exact = vae.encode(x)
    rate = td.kl_divergence(exact, vae.latent_prior())
    vae.encoder.head.loc.linear.weight.zero_()
    vae.encoder.head.loc.linear.bias.zero_()
    vae.encoder.head.scale.layer.linear.bias.zero_()
    found = gap_summary(gap_values(vae, x))
    assert found["fitted_rate"] == pytest.approx(rate.mean().item(), abs=0.1)
    assert found["amortization_gap"] > 10 * found["amortization_gap_error"]


def test_other_families_have_no_split(monkeypatch):
    vae, _ = linear_gaussian(2)
    x = draw_data(vae, 2)
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda x: td.MultivariateNormal(encode(x).mean, torch.eye(2).double()))
    assert gap_values(vae, x) == {}
