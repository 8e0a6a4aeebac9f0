import math

import numpy as np
import pytest
import torch
import torch.distributions as td
from scipy.stats import multivariate_normal

from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.errors import PointMassError
from vaelab.evaluation.latent_usage import Aggregate, latent_summary, latent_values


def values_of(vae, x, block_size=50):
    """`latent_values` of all examples, their blocks drawn one after another."""
    blocks = x.split(block_size)
    with torch.no_grad():
        aggregate = Aggregate(vae, blocks)
        found = [latent_values(vae, block, aggregate) for block in blocks]
    return {name: torch.cat([values[name] for values in found]) for name in found[0]}


def mixture(q, z):
    """log of the mean of the posteriors' densities, by SciPy."""
    normals = [multivariate_normal(m, np.diag(s**2)) for m, s in zip(q.mean.numpy(), q.stddev.numpy(), strict=True)]
    return np.log(np.mean([normal.pdf(z.numpy()) for normal in normals], axis=0))


def test_the_aggregate_is_the_mean_of_the_posteriors_densities():
    vae, _ = linear_gaussian(3)
    x = draw_data(vae, 40)
    with torch.no_grad():
        q, z = vae.encode(x), torch.randn(7, 3, dtype=torch.float64)
        found = Aggregate(vae, x.split(15)).log_prob(z)
    np.testing.assert_allclose(found.numpy(), mixture(q, z), rtol=1e-10)


def test_posteriors_of_another_family_have_the_same_aggregate(monkeypatch):
    vae, _ = linear_gaussian(3)
    x, z = draw_data(vae, 40), torch.randn(7, 3, dtype=torch.float64)
    with torch.no_grad():
        expected = Aggregate(vae, x.split(15)).log_prob(z)
        encode = vae.encode

        def as_full(x):
            q = encode(x)
            return td.MultivariateNormal(q.mean, torch.diag_embed(q.variance))

        monkeypatch.setattr(vae, "encode", as_full)
        aggregate = Aggregate(vae, x.split(15))
        assert aggregate.normals is None
        torch.testing.assert_close(aggregate.log_prob(z), expected)


def test_narrow_posteriors_keep_their_digits():
    vae, _ = linear_gaussian(3)
    vae.encoder.head.scale.layer.linear.bias.data.fill_(2 * math.log(1e-4))
    x = draw_data(vae, 30)
    with torch.no_grad():
        q = vae.encode(x)
        z = q.mean + 1e-4
        np.testing.assert_allclose(Aggregate(vae, [x]).log_prob(z).numpy(), mixture(q, z), rtol=1e-6)


def test_mutual_information_and_marginal_kl_sum_to_the_mean_kl():
    vae, _ = linear_gaussian(2)
    columns = values_of(vae, draw_data(vae, 4000))
    found = latent_summary(columns)
    kl = columns["kl_per_dimension"].sum(1)
    log_ratio = columns["log_posterior"] - columns["log_prior"]
    error = (log_ratio - kl).std().item() / math.sqrt(len(kl))
    assert found["mutual_information"] + found["marginal_kl"] == pytest.approx(kl.mean().item(), abs=4 * error)


def test_of_an_exact_posterior_both_have_closed_forms():
    # x ~ p(x) and q exact: q(z) is the prior, and I(x; z) = -1/2 sum_j log S_j, S_j the posterior's variances
    vae, _ = linear_gaussian(2)
    x = draw_data(vae, 5000)
    found = latent_summary(values_of(vae, x))
    variances = vae.encode(x[:1]).variance.detach()
    assert found["mutual_information"] == pytest.approx((-variances.log().sum() / 2).item(), abs=0.1)
    assert found["marginal_kl"] == pytest.approx(0, abs=0.03)
    assert found["active_units"] == found["latent_dim"] == 2


def test_a_posterior_that_tells_examples_apart_saturates_at_log_n():
    vae, _ = linear_gaussian(5)
    vae.encoder.head.scale.layer.linear.bias.data.fill_(2 * math.log(1e-3))
    found = latent_summary(values_of(vae, draw_data(vae, 200)))
    assert found["mutual_information"] == pytest.approx(math.log(200), abs=1e-6)
    assert found["mutual_information_limit"] == pytest.approx(math.log(200))


def test_a_collapsed_posterior_has_no_active_unit_and_no_information():
    vae, _ = linear_gaussian(4)
    head = vae.encoder.head
    for parameter in (head.loc.linear.weight, head.loc.linear.bias, head.scale.layer.linear.bias):
        parameter.data.zero_()
    found = latent_summary(values_of(vae, draw_data(vae, 300)))
    assert found["active_units"] == 0
    assert found["mutual_information"] == pytest.approx(0, abs=1e-9)
    assert found["marginal_kl"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("share", [1, 2, 3])
def test_active_units_are_those_whose_mean_varies(share):
    vae, _ = linear_gaussian(4)
    vae.encoder.head.loc.linear.weight.data[share:] *= 1e-3
    assert latent_summary(values_of(vae, draw_data(vae, 300)))["active_units"] == share


def test_one_example_has_no_active_units_and_no_nan():
    vae, _ = linear_gaussian(2)
    found = latent_summary(values_of(vae, draw_data(vae, 1)))
    assert "active_units" not in found
    assert all(math.isfinite(value) for value in found.values())


def test_a_point_mass_is_refused_with_a_remedy():
    vae, _ = linear_gaussian(2)
    vae.encoder.head.scale.layer.linear.bias.data.fill_(-math.inf)
    with pytest.raises(PointMassError, match=r"5 of 5 examples.*min_scale"):
        values_of(vae, draw_data(vae, 5))
