"""Flows: samples, densities, their layers, and the import of zuko."""

import sys

import pytest
import torch
import torch.distributions as td

from tests.helpers.flows import bent, shear
from vaelab.distributions import Flow, autoregressive_layers
from vaelab.distributions.autoregressive import zuko

FAMILIES = {
    "iaf": {},
    "coupling": {"num_groups": 2},
    "spline": {"num_bins": 5},
    "both": {"num_groups": 2, "num_bins": 5},
}
each_family = pytest.mark.parametrize("options", FAMILIES.values(), ids=FAMILIES)


def flow(options, size=3, batch=(4,), inverted=False, std=0.5):
    """A flow in float64 with random weights and parameters."""
    torch.manual_seed(0)
    layers = bent(autoregressive_layers(size, 2, 2, [9, 8], **options).double(), std)
    context = torch.randn(*batch, 2).double()
    transforms = [layer(context) for layer in layers]
    loc, scale = torch.randn(*batch, size).double(), 0.5 + torch.rand(*batch, size).double()
    return Flow(loc, scale, [t.inv for t in transforms] if inverted else transforms)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@each_family
def test_the_density_of_a_sample_is_that_drawn_with_it(options, batch, inverted):
    q = flow(options, batch=batch, inverted=inverted)
    z, log_q = q.rsample_and_log_prob((5,))
    assert z.shape == (5, *batch, 3)
    assert log_q.shape == (5, *batch)
    torch.testing.assert_close(q.log_prob(z), log_q, rtol=0, atol=1e-8)
    torch.testing.assert_close(q.log_prob(z[0]), log_q[0], rtol=0, atol=1e-8)


@each_family
def test_a_plain_sample_is_that_drawn_with_its_density(options):
    q = flow(options)
    torch.manual_seed(1)
    z = q.sample((5,))
    torch.manual_seed(1)
    assert torch.equal(q.rsample_and_log_prob((5,))[0], z)
    assert not z.requires_grad


@torch.no_grad()
@each_family
def test_a_density_in_two_dimensions_integrates_to_one(options):
    q = flow(options, size=2, batch=())
    z = q.sample((1000,))
    lower, upper = z.min(0).values - 3, z.max(0).values + 3
    grid = [torch.linspace(a, b, 200).double() for a, b in zip(lower.tolist(), upper.tolist(), strict=True)]
    density = q.log_prob(torch.cartesian_prod(*grid)).exp().view(200, 200)
    total = torch.trapezoid(torch.trapezoid(density, grid[1]), grid[0])
    assert total.item() == pytest.approx(1, abs=6e-3)


@each_family
def test_a_layer_depends_on_what_its_order_allows(options):
    layers = bent(autoregressive_layers(4, 2, 2, 32, **options).double())
    context, points = torch.randn(2).double(), torch.randn(20, 4).double()
    for layer, backwards in zip(layers, (False, True), strict=True):
        jacobians = torch.stack([torch.autograd.functional.jacobian(layer(context), x) for x in points])
        _, log_dets = layer(context).call_and_ladj(points)
        torch.testing.assert_close(jacobians.diagonal(dim1=1, dim2=2).log().sum(1), log_dets)
        seen = (jacobians.flip(1, 2) if backwards else jacobians).ne(0).any(0)
        expected = torch.ones(4, 4).tril() > 0
        if "num_groups" in options:
            expected[1, 0] = expected[3, 2] = False
        assert torch.equal(seen, expected)


def test_a_shear_gives_a_gaussian_with_that_covariance():
    tril = torch.tensor([[0.7, 0, 0], [0.3, 1.2, 0], [-0.8, 0.5, 0.4]]).double()
    (layer,) = autoregressive_layers(3, 1, 1, 6).double()
    scale, loc = tril.diagonal(), torch.tensor([1.0, -2.0, 0.5]).double()
    shear(layer, (tril / scale.unsqueeze(1)).tril(-1))
    q, z = Flow(loc, scale, [layer(torch.zeros(1).double())]), torch.randn(5, 3).double()
    torch.testing.assert_close(q.log_prob(z), td.MultivariateNormal(loc, scale_tril=tril).log_prob(z))
    torch.testing.assert_close(q.rsample((5,)).shape, z.shape)


def test_a_spline_leaves_no_gap_beyond_its_ends():
    q = flow(FAMILIES["both"], batch=())
    far = q.loc + q.scale * torch.tensor([[5.5, 7, -9], [-6, 30, 8]]).double()
    torch.testing.assert_close(q.log_prob(far), td.Independent(td.Normal(q.loc, q.scale), 1).log_prob(far))


@each_family
def test_a_new_layer_is_the_identity(options):
    x = torch.randn(5, 3)
    for layer in autoregressive_layers(3, 2, 2, 9, **options):
        y, log_det = layer(torch.randn(5, 2)).call_and_ladj(x)
        torch.testing.assert_close(y, x)
        torch.testing.assert_close(log_det, torch.zeros(5), rtol=0, atol=1e-5)


@each_family
def test_extreme_weights_keep_densities_finite_in_float32(options):
    torch.manual_seed(0)
    layers = bent(autoregressive_layers(6, 2, 2, 32, **options), std=5)
    q = Flow(torch.zeros(200, 6), torch.ones(200, 6), [layer(torch.randn(200, 2)) for layer in layers])
    z = q.sample().requires_grad_()
    log_q = q.log_prob(z)
    assert log_q.isfinite().all()
    assert torch.autograd.grad(log_q.sum(), z)[0].isfinite().all()


def test_a_flow_has_no_mean():
    with pytest.raises(NotImplementedError):
        _ = flow({}).mean


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("num_transforms", {"num_transforms": 0}),
        ("hidden_f", {"hidden_features": [4, 0]}),
        ("num_bins", {"num_bins": 1}),
    ],
)
def test_wrong_numbers_are_refused(name, wrong):
    with pytest.raises(ValueError, match=name):
        autoregressive_layers(**{"size": 3, "num_context": 1, "num_transforms": 1, "hidden_features": 4} | wrong)


def test_importing_zuko_changes_nothing_in_pytorch(monkeypatch):
    zuko()  # adds one method to transforms, which its own need
    for name in [name for name in sys.modules if name.split(".")[0] == "zuko"]:
        monkeypatch.delitem(sys.modules, name)

    modules = [module for name, module in sys.modules.items() if name.startswith("torch.distributions")]
    owners = [c for module in modules for c in vars(module).values() if isinstance(c, type)]
    before = [(owner, owner.__name__, dict(vars(owner))) for owner in owners]
    zuko()
    assert "zuko" in sys.modules
    for owner, name, members in before:
        assert owner.__name__ == name
        assert not {key for key in vars(owner) if vars(owner)[key] is not members.get(key)} - {"call_and_ladj"}
    with pytest.raises(ValueError, match="scale"):
        td.Normal(0.0, -1.0)
