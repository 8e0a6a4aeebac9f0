"""A decoder as a program for a page: the same numbers as PyTorch's, and a refusal of what no page can run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.choices import choices, conditional, part
from vaelab.distributions import mean_or_sample
from vaelab.exploring.program import ELEMENTWISE, REDUCTIONS, Program
from vaelab.exploring.recorder import NotTranslatedError, translate
from vaelab.heads import Bernoulli
from vaelab.networks import MLP
from vaelab.vae import Conditional

LATENT, IMAGE = 3, (2, 8, 9)
ACTIVATIONS = (
    *("tanh", "relu", "gelu", "silu", "elu", "leakyrelu", "softplus", "mish", "hardswish", "selu", "celu", "hardtanh"),
    *("softsign", "tanhshrink", "logsigmoid", "prelu", "relu6", "hardsigmoid", "sigmoid", "softshrink", "hardshrink"),
)


def assert_same(program: Program, function: Callable[[Tensor], Tensor], tolerance: float = 1e-5) -> None:
    """Compare both at points other than that of the translation."""
    for z in 2 * torch.randn(4, LATENT):
        expected = function(z[None]).detach().flatten().numpy()
        np.testing.assert_allclose(program(z.double().numpy()), expected, rtol=tolerance, atol=tolerance)


def mean_of(decoder: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda z: mean_or_sample(decoder(z))


@pytest.mark.slow
@pytest.mark.parametrize("name", choices("decoder"))
def test_each_head_behind_an_mlp_is_translated(name: str) -> None:
    decoder = conditional("decoder", name, (LATENT,), IMAGE).eval()
    program = translate(mean_of(decoder), torch.randn(1, LATENT))
    assert_same(program, mean_of(decoder), 1e-4)
    assert {step for step, *_ in program.steps} <= {"linear", "take", *ELEMENTWISE, *REDUCTIONS}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_is_translated(activation: str) -> None:
    network = MLP((LATENT,), IMAGE, [5, 5], activation, normalization="LayerNorm", residual=True).eval()
    assert_same(translate(network, torch.randn(1, LATENT)), network)


@pytest.mark.parametrize("options", [{"normalization": "RMSNorm"}, {"residual": True}])
def test_layers_of_an_mlp_are_translated(options: dict[str, Any]) -> None:
    network = MLP((LATENT,), IMAGE, [5, 5], **options).eval()
    assert_same(translate(network, torch.randn(1, LATENT)), network)


def test_a_gated_network_is_translated() -> None:
    network = part("network", "gated")((LATENT,), IMAGE).eval()
    assert_same(translate(network, torch.randn(1, LATENT)), network)


def test_only_what_the_result_needs_is_kept() -> None:
    decoder = conditional("decoder", "gaussian", (LATENT,), IMAGE).eval()
    program = translate(mean_of(decoder), torch.randn(1, LATENT))
    assert [step for step, *_ in program.steps] == [
        "linear",
        "tanh",
        "linear",
        "sigmoid",
    ]  # without the layer of the scale


def test_half_precision_halves_the_matrices_alone() -> None:
    decoder = Conditional((LATENT,), IMAGE, lambda *shapes: MLP(*shapes, hidden_features=100), Bernoulli).eval()
    exact = translate(mean_of(decoder), torch.randn(1, LATENT))
    halved = exact.halved()
    assert {c.size for c in halved.constants if c.dtype == np.float16} == {100 * 144}
    assert halved.num_bytes == exact.num_bytes - 2 * 100 * 144
    assert_same(halved, mean_of(decoder), 1e-3)


def test_a_constant_picture_is_translated() -> None:
    constant = torch.rand(4)
    assert_same(translate(lambda z: constant, torch.randn(1, LATENT)), lambda z: constant)


def in_place(z: Tensor) -> Tensor:
    return z.exp().add_(1).mul_(z)


def moves(z: Tensor) -> Tensor:
    joined = torch.cat([z[:, 1:], torch.ones(1, 2), z.T.reshape(1, -1)], -1)
    return torch.stack([joined, -joined], -1).permute(2, 0, 1).expand(2, 3, -1) * torch.arange(3.0)[:, None]


def reduces(z: Tensor) -> Tensor:
    table = z.unsqueeze(-1) * torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0))
    return table.amax(1) + table.mean(1) - table.logsumexp((1, 2), keepdim=True).squeeze(-1) + table.var()


@pytest.mark.parametrize("function", [in_place, moves, reduces])
def test_operations_in_place_moves_and_reductions(function: Callable[[Tensor], Tensor]) -> None:
    assert_same(translate(function, torch.randn(1, LATENT)), function)


def by_value(z: Tensor) -> Tensor:
    return z if z.sum() > 0 else -z


REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "_local_scalar_dense": by_value,
    "_to_copy": lambda z: z.long(),
    "sort": lambda z: z.sort().values,
    "two matrices": lambda z: z.T @ z,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_page_can_run_is_refused(name: str) -> None:
    with pytest.raises(NotTranslatedError, match=name):
        translate(REFUSED[name], torch.randn(1, LATENT))


def test_a_refusal_names_the_outermost_operation() -> None:
    decoder = conditional("decoder", "bernoulli", (LATENT,), (1, 8, 8), "conv").eval()
    with pytest.raises(NotTranslatedError, match=r"^upsample_nearest2d$"):
        translate(mean_of(decoder), torch.randn(1, LATENT))
