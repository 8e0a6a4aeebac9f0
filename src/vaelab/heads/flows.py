"""Normalising flows as heads, for encoders."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.distributions as td

import vaelab.distributions as vd
from vaelab.errors import check_count
from vaelab.heads.base import Features
from vaelab.heads.correlated import Correlated
from vaelab.networks import Network


class FlowHead(Correlated):
    """Base class of the flows `z = mu + sigma f(e; h)`, e ~ N(0, I), for events that are vectors.

    The numbers mu, log sigma^2 and h come from parallel linear layers on the features. f consists of layers
    `y_i = g(x_i; phi_i)`, where a masked network computes phi_i: `vaelab.distributions.AutoregressiveLayer`. At first,
    f is the identity, so the head begins as a `DiagonalGaussian`.

    Args:
        network: the network before the head.
        num_transforms: the number of layers of f.
        num_context: the size of h.
        hidden_features: the width of the hidden layer of the network in each layer of f, or a list of widths.
        min_scale: the floor of sigma, as in `PerPixelScale`.
        num_bins: None for an affine g; else g is a spline with so many bins, as in `SplineFlow`.

    Raises:
        ValueError: the event is not a vector, or a count is below 1.
    """

    num_groups: ClassVar[int | None] = None

    def __init__(
        self,
        network: Network,
        num_transforms: int = 2,
        num_context: int = 64,
        hidden_features: int | Sequence[int] = 128,
        min_scale: float = 1e-3,
        num_bins: int | None = None,
    ) -> None:
        super().__init__(network, min_scale)
        check_count("num_context", num_context)
        self.context = network.output_layer("vector", num_context)
        options = {"num_groups": self.num_groups, "num_bins": num_bins}
        self.layers = vd.autoregressive_layers(
            self.event_shape[0], num_context, num_transforms, hidden_features, **options
        )

    def forward(self, features: Features) -> td.Distribution:
        context = self.context(features)
        return vd.Flow(self.loc(features), self.scale(features), [layer(context) for layer in self.layers])


class InverseAutoregressiveFlow(FlowHead):
    """An inverse autoregressive flow: Kingma et al. (2016), with affine `g(x_i) = m_i + s_i x_i`.

    m_i and s_i depend on h and on all x_j before x_i. A sample and its density take one pass, but the density of
    another point takes one pass for each element. The arguments are those of `FlowHead`.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((1, 28, 28), (2,))
        >>> q = InverseAutoregressiveFlow(network)(network(torch.rand(5, 1, 28, 28)))
        >>> z, log_q = q.rsample_and_log_prob((3,))
        >>> z.shape, log_q.shape
        (torch.Size([3, 5, 2]), torch.Size([3, 5]))
    """


class CouplingFlow(FlowHead):
    """A flow of affine coupling layers: Dinh, Sohl-Dickstein & Bengio (2017), RealNVP.

    `g(x_i) = m_i + s_i x_i`. For one half of the elements, m_i and s_i depend on h and on the other half; for that
    other half, on h alone. The halves swap in every layer. The density of any point takes two passes. The arguments
    are those of `FlowHead`.
    """

    num_groups = 2


class SplineFlow(CouplingFlow):
    """A neural spline flow: Durkan et al. (2019), with coupling layers as in `CouplingFlow`.

    g is a monotonic rational-quadratic spline on [-5, 5], and the identity beyond. It acts on e, before mu and sigma,
    and a standard normal e lies beyond with a probability of 6e-7.

    Args:
        network: the network before the head.
        num_bins: the number of bins of a spline.
        options: the other arguments of `FlowHead`.

    Raises:
        ValueError: as for `FlowHead`, or `num_bins` is below 2.
    """

    def __init__(self, network: Network, num_bins: int = 8, **options: Any) -> None:
        super().__init__(network, num_bins=num_bins, **options)
