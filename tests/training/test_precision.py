"""`trainer.precision=bf16-mixed`: networks multiply in bfloat16, and every distribution is computed in float32."""

import pytest
import torch
from torch import Tensor

from tests.helpers.choices import SMALL, choices, completed
from tests.helpers.commands import composing
from tests.helpers.training import configured, fit
from vaelab.objectives import ELBO, Terms
from vaelab.runs.build import build
from vaelab.training import VAEModule
from vaelab.training.stacked_step import StackedStep
from vaelab.training.step import Step
from vaelab.vae import VAE, Conditional

REDUCED = "trainer.precision=bf16-mixed"
PARTS = [(group, name) for group in ("decoder", "encoder", "prior", "network", "model") for name in choices(group)]


class Watched(ELBO):
    """The usual bound, which notes the dtypes of the features, of the distributions, and of samples and terms."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.others = set(), set()

    def watch(self, conditional: Conditional, context: Tensor) -> None:
        conditional.network.register_forward_hook(lambda m, i, features: self.features.add(features.dtype))
        conditional.head.register_forward_hook(lambda m, i, p: self.note(p.sample(), p.log_prob(p.sample())))

    def note(self, *tensors: Tensor) -> None:
        assert not torch.is_autocast_enabled("cpu")
        self.others |= {tensor.dtype for tensor in tensors}

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        if not self.features:
            self.watch(vae.encoder, x)
            self.watch(vae.decoder, vae.latent_prior().sample((1,)))
        terms = super().forward(vae, x, step)
        self.note(terms.loss, *terms.metrics.values(), vae.latent_prior().sample())
        return terms


def watch(module: VAEModule) -> Watched:
    module.objective = Watched()
    return module.objective


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name"), PARTS)
def test_only_networks_are_in_bfloat16(group: str, name: str) -> None:
    data, module = build(composing(*SMALL, *completed(group, name)))
    for part in module.vae.modules():
        if isinstance(part, Conditional):
            part.reduced = torch.bfloat16
    found = watch(module)
    found(module.vae, data.draw("train", torch.arange(4)), torch.tensor(0))
    assert found.features == {torch.bfloat16}
    assert found.others == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(), ("network=conv",), ("model=shared",), ("model=hierarchical",)], ids=" ".join)
def test_training_is_reduced_and_validation_is_not(overrides: tuple[str, ...]) -> None:
    found: list[Watched] = []
    fit(REDUCED, "trainer.max_steps=1", *overrides, prepare=lambda module: found.append(watch(module)))
    assert found[0].features == {torch.bfloat16, torch.float32}  # of the training step, and of the validation
    assert found[0].others == {torch.float32}


def test_the_kl_is_that_of_the_posterior_in_float64() -> None:
    _, module = build(configured())
    module.vae.encoder.reduced = torch.bfloat16
    x = torch.rand(50, 1, 8, 8)
    q = module.vae.encode(x).base_dist
    loc, scale = q.loc.double(), q.scale.double()
    expected = ((loc.square() + scale.square() - 1) / 2 - scale.log()).sum(1)
    found = module.objective(module.vae, x, torch.tensor(0)).metrics["kl"]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_distribution_is_not_reduced_in_evaluation() -> None:
    module = fit(REDUCED, "trainer.max_steps=1").module
    x, vae = torch.rand(5, 1, 8, 8), module.vae.eval()
    reduced = vae.encode(x).mean
    vae.encoder.reduced = None
    assert torch.equal(vae.encode(x).mean, reduced)


def stacked_sums(reduced: torch.dtype | None) -> Tensor:
    """Return the sums of the terms of two stacked models, after one step."""
    steps = []
    for seed in (0, 1):
        data, module = build(configured(f"seed={seed}"))
        module.vae.encoder.reduced = module.vae.decoder.reduced = reduced
        steps.append(Step(module.vae, module.objective, data, module.optimizer(module.vae.parameters())))
    stacked = StackedStep(steps)
    stacked(torch.arange(20).reshape(2, 10), 10, (("train", 0, 0, 0, 0), ("train", 1, 0, 0, 0)))
    return stacked.sums


def test_stacked_models_multiply_in_bfloat16_as_well() -> None:
    reduced, full = stacked_sums(torch.bfloat16), stacked_sums(None)
    assert not torch.equal(reduced, full)
    torch.testing.assert_close(reduced, full, rtol=0.02, atol=0)
