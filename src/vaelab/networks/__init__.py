"""Networks that map a context to features, and the initialization of their weights."""

from vaelab.networks.base import Chain, Network
from vaelab.networks.conv import ConvNet, ResidualConvNet
from vaelab.networks.gated import GatedConvNet, GatedMLP
from vaelab.networks.initialization import glorot_init, normal_init
from vaelab.networks.mlp import MLP

__all__ = [
    "MLP",
    "Chain",
    "ConvNet",
    "GatedConvNet",
    "GatedMLP",
    "Network",
    "ResidualConvNet",
    "glorot_init",
    "normal_init",
]
