"""The tensors of modules and optimisers, and copies of nested state."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer


def tensors_of(module: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    """Return every tensor that training changes: parameters, all buffers, and the optimiser's state."""
    return [*module.parameters(), *module.buffers(), *leaves(list(optimizer.state.values()))]


def leaves(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested dicts, lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)


def copied(value: Any) -> Any:
    """Return a deep copy of nested plain data; each tensor gets its own memory, even if it was a view."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    return type(value)(map(copied, value)) if isinstance(value, list | tuple) else deepcopy(value)
