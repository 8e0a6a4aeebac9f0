"""Trunks: modules that map a context of any shape to features, and know their `out_features`."""

from torch import Tensor, nn


class Trunk(nn.Module):
    """Maps a context `[*batch, *context_shape]` to features `[*batch, out_features]`."""

    out_features: int


class Chain(Trunk):
    """One trunk after another: `first` maps the context, `second` maps its features. `second` may be shared."""

    def __init__(self, first: Trunk, second: Trunk) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.out_features = second.out_features

    def forward(self, context: Tensor) -> Tensor:
        return self.second(self.first(context))
