"""Stateless randomness: every draw is a function of a few integers, so no generator's state has to be saved."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch

Stage = Literal["split", "binarize", "pixels", "initialize", "shuffle", "train", "evaluate", "figures", "prior"]
_STAGES: dict[Stage, int] = {stage: number for number, stage in enumerate(get_args(Stage), start=1)}
LARGEST_SEED = _MASK = (1 << 64) - 1


def stream(stage: Stage, *key: int) -> int:
    """Return the seed in [0, 2^63) of draws named by `stage` and `key`, such as `("train", seed, epoch, step, rank)`.

    Each integer is mixed in by a round of SplitMix64 (Steele, Lea & Flood 2014), a bijection of the 64-bit state.
    PyTorch's CPU generator uses only the lower 32 bits of a seed, so among 10^5 steps, two may share their noise.

    Raises:
        ValueError: an integer of the key is negative or above `LARGEST_SEED`, and would share its draws with another.
    """
    state = _STAGES[stage]
    for part in key:
        if not 0 <= part <= LARGEST_SEED:
            raise ValueError(f"a seed or a count must be a whole number from 0 to 2^64 - 1, found {part}")
        state = _splitmix(state ^ _splitmix(part))
    return state >> 1


def _splitmix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def seed_draws(device: torch.device | str, stage: Stage, *key: int) -> None:
    """Seed PyTorch's global generator of `device` with `stream(stage, *key)`."""
    seed = stream(stage, *key)
    if torch.device(device).type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def generator(stage: Stage, *key: int) -> torch.Generator:
    """Return a new CPU generator, seeded with `stream(stage, *key)`."""
    return torch.Generator().manual_seed(stream(stage, *key))


_streams: Sequence[torch.Generator] | None = None


@contextmanager
def drawing_from(streams: Sequence[torch.Generator]) -> Iterator[None]:
    """Let `standard_normal` draw from one generator per model, when `torch.func.vmap` maps over the models."""
    global _streams
    former, _streams = _streams, streams
    try:
        yield
    finally:
        _streams = former


def standard_normal(shape: torch.Size, like: torch.Tensor) -> torch.Tensor:
    """Draw from N(0, I) as `torch.randn` does, with the dtype and device of `like`; see also `drawing_from`."""
    if _streams is None:
        return torch.randn(shape, dtype=like.dtype, device=like.device)
    return _StandardNormal.apply(like.detach(), shape)  # type: ignore[return-value]


class _StandardNormal(torch.autograd.Function):
    """`standard_normal` under `vmap`; an autograd function, because only such a function can define its own `vmap`."""

    @staticmethod
    def forward(like: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        raise RuntimeError("stacked models cannot draw from a distribution whose parameters do not depend on the model")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: torch.Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[torch.Tensor, int]:
        like, shape = args
        options = {"dtype": like.dtype, "device": like.device}
        return torch.stack([torch.randn(shape, generator=stream, **options) for stream in _streams or ()]), 0
