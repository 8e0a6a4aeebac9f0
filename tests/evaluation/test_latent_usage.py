import math

import numpy as np
import pytest
import torch
import torch.distributions as td
from scipy.stats import multivariate_normal

from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.errors import PointMassError
from vaelab.evaluation.latent_usage import aggregate_of, latent_summary, latent_values


def values_of(vae, x, block_size=50):
    """`latent_values` of all examples, their blocks drawn one after another."""
    blocks = x.split(block_size)
    with torch.no_grad():
        aggregate = aggregate_of(vae, blocks)
        found = [latent_values(vae, block, aggregate) for block in blocks]
    return {name: torch.cat([values[name] for values in found]) for name in found[0]}


def with_scale(vae, scale):
    vae.encoder.head.scale.layer.linear.bias.data.fill_(2 * math.log(scale) if scale else -math.inf)
    return vae


@pytest.mark.parametrize("scale", [0.3, 1e-4])
@pytest.mark.parametrize("family", ["diagonal", "full"])
def test_the_aggregate_is_the_mean_of_the_posteriors_densities(family, scale, monkeypatch):
    vae = with_scale(linear_gaussian(3)[0], scale)
    x = draw_data(vae, 40)
    q = vae.encode(x)
    normals = [multivariate_normal(m, np.diag(s**2)) for m, s in zip(q.mean.data, q.stddev.data, strict=True)]
    z = q.mean.data[:7] + scale
    if family == "full":
        encode = vae.encode
        as_full = lambda q: td.MultivariateNormal(q.mean, torch.diag_embed(q.variance))  # noqa: E731
        monkeypatch.setattr(vae, "encode", lambda x: as_full(encode(x)))
    with torch.no_grad():
        found = aggregate_of(vae, x.split(15)).log_prob(z)
    expected = np.log(np.mean([normal.pdf(z.numpy()) for normal in normals], axis=0))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_mutual_information_and_marginal_kl_have_closed_forms():
    # x ~ p(x) and q exact: q(z) is the prior, and I(x; z) = -1/2 sum_j log S_j, S_j the posterior's variances
    vae, _ = linear_gaussian(2)
    x = draw_data(vae, 5000)
    columns = values_of(vae, x)
    found = latent_summary(columns)
    variances = vae.encode(x[:1]).variance.detach()
    assert found["mutual_information"] == pytest.approx((-variances.log().sum() / 2).item(), abs=0.1)
    assert found["marginal_kl"] == pytest.approx(0, abs=0.03)
    assert found["active_units"] == found["latent_dim"] == 2
    kl = columns["kl_per_dimension"].sum(1)
    log_ratio = columns["log_posterior"] - columns["log_prior"]
    error = (log_ratio - kl).std().item() / math.sqrt(len(kl))
    assert found["mutual_information"] + found["marginal_kl"] == pytest.approx(kl.mean().item(), abs=4 * error)


def test_a_posterior_that_tells_examples_apart_saturates_at_log_n():
    vae = with_scale(linear_gaussian(5)[0], 1e-3)
    found = latent_summary(values_of(vae, draw_data(vae, 200)))
    assert found["mutual_information"] == pytest.approx(math.log(200), abs=1e-6)
    assert found["mutual_information_limit"] == pytest.approx(math.log(200))


def test_a_collapsed_posterior_has_no_active_unit_and_no_information():
    vae = with_scale(linear_gaussian(4)[0], 1.0)
    for parameter in vae.encoder.head.loc.parameters():
        parameter.data.zero_()
    found = latent_summary(values_of(vae, draw_data(vae, 300)))
    assert found["active_units"] == 0
    assert found["mutual_information"] == pytest.approx(0, abs=1e-9)
    assert found["marginal_kl"] == pytest.approx(0, abs=1e-9)


def test_active_units_are_those_whose_mean_varies():
    vae, _ = linear_gaussian(4)
    vae.encoder.head.loc.linear.weight.data[3:] *= 1e-3
    assert latent_summary(values_of(vae, draw_data(vae, 300)))["active_units"] == 3
    assert "active_units" not in latent_summary(values_of(vae, draw_data(vae, 1)))


def test_a_point_mass_is_refused_with_a_remedy():
    vae, _ = linear_gaussian(2)
    x = draw_data(vae, 5)
    with pytest.raises(PointMassError, match=r"5 of 5 examples.*min_scale"):
        values_of(with_scale(vae, 0), x)
