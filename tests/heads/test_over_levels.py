"""A decoder of densities over dequantised pixels, scored as one of masses over grey levels."""

import pytest
import torch

from tests.helpers.choices import SMALL
from tests.helpers.commands import composing
from vaelab.data.batches import Block
from vaelab.errors import ConfigError
from vaelab.estimators import ImportanceSampling
from vaelab.heads import Beta, DiagonalGaussian
from vaelab.pixels import bits_per_dim
from vaelab.runs.build import build
from vaelab.runs.serving import not_advised, scored_as_mass


def built(decoder, *overrides):
    return build(composing(*SMALL, f"decoder={decoder}", *overrides))


def bits(data, head, nats):
    return bits_per_dim(nats.mean().item(), data.event_shape, head.pixels, data.num_levels)


@pytest.mark.parametrize(
    "decoder", ["gaussian", "gaussian_optimal", "logistic", "laplace", "logit_normal", "continuous_bernoulli"]
)
def test_a_mass_is_above_its_bound_by_dequantised_pixels(decoder):
    data, module = built(decoder)
    vae = module.vae.eval()
    indices, z = torch.arange(100), torch.randn(100, 3)
    with torch.no_grad():
        densities = torch.stack([vae.decode(z).log_prob(data.draw("test", indices)) for _ in range(50)])
        bound = bits(data, vae.decoder.head, densities)
        scored_as_mass(vae, data)
        mass = bits(data, vae.decoder.head, vae.decode(z).log_prob(data.draw("test", indices)))
    assert 0 < mass < bound  # lower bits are better


def test_everything_after_works_on_levels():
    data, module = built("logistic")
    vae = module.vae
    scored_as_mass(vae, data)
    assert (data.pixels, data.max_pixel, vae.max_pixel) == ("levels", 16, 16)
    x = data.draw_block("test", Block(0, torch.arange(20)))
    assert x.unique().tolist() == list(range(17))
    estimate = ImportanceSampling(num_samples=10)(vae, x)
    assert (estimate.log_likelihood < 0).all()  # a mass
    assert module.objective(vae, x, torch.tensor(0)).loss.isfinite().all()
    assert data.record()["pixels"] == "levels"
    with pytest.raises(ConfigError, match="whose levels pixels are scored as a mass already"):
        scored_as_mass(vae, data)


def test_a_head_without_masses_of_intervals_is_refused():
    data, module = built("gaussian")
    head = module.vae.decoder.head = Beta(module.vae.decoder.network)
    with pytest.raises(ConfigError, match=r"Beta cannot be scored over levels.* give it a method log_mass\("):
        scored_as_mass(module.vae, data)
    assert module.vae.decoder.head is head
    assert data.pixels == "unit"


@pytest.mark.parametrize(("decoder", "expected"), [("gaussian", set()), ("student_t", {"mass"}), ("mixture", {"mass"})])
def test_masses_are_advised_only_where_there_are_some(decoder, expected):
    data, module = built(decoder)
    assert not_advised(module.vae, data) == expected


def test_binary_pixels_are_refused():
    data, module = built("bernoulli")
    with pytest.raises(
        ConfigError, match="found Bernoulli, whose binary pixels have no levels: leave out measure=mass"
    ):
        scored_as_mass(module.vae, data)


def test_a_measure_that_its_pixels_lack_is_refused(monkeypatch):
    monkeypatch.setattr(DiagonalGaussian, "measure", "mass")
    with pytest.raises(ConfigError, match="declares measure='mass': expected measure='density' for pixels='unit'"):
        built("gaussian")


def test_a_logistic_decoder_with_the_gaussians_optimal_scale_is_refused():
    with pytest.raises(ConfigError, match=r"Logistic .* found OptimalScale, .* choose vaelab.heads.SharedScale"):
        built("logistic", "decoder.head.scale._target_=vaelab.heads.OptimalScale")
