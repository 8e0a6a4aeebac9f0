"""What objects hold: the numbers and tensors that can be reached from them."""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from types import MethodType
from typing import Any

from torch import Tensor


def numbers_in(*things: Any) -> list[bool | int | float | str]:
    """The numbers and strings that are held in Python; not those in tensors."""
    return [thing for thing in _held(things) if not isinstance(thing, Tensor)]


def tensors_in(*things: Any) -> list[Tensor]:
    """The tensors that are held, each once: parameters and buffers of modules above all."""
    return [thing for thing in _held(things) if isinstance(thing, Tensor)]


def copied(value: Any) -> Any:
    """A copy of nested plain data in which each tensor is one of its own, even where it was a view of a larger one."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    return type(value)(map(copied, value)) if isinstance(value, list | tuple) else deepcopy(value)


def _held(things: tuple[Any, ...]) -> Iterator[Any]:
    left, seen = [*reversed(things)], set[int]()
    while left:
        thing = left.pop()
        thing = getattr(thing, "_torchdynamo_orig_callable", thing)  # what torch.compile made something of
        if isinstance(thing, bool | int | float | str):
            yield thing
        elif id(thing) not in seen and not isinstance(thing, type):
            seen.add(id(thing))
            if isinstance(thing, Tensor):
                yield thing
            else:
                left += reversed(list(_parts(thing)))


def _parts(thing: Any) -> Any:
    if isinstance(thing, partial):
        return thing.func, thing.args, thing.keywords
    if isinstance(thing, MethodType):
        return thing.__self__, thing.__func__
    if isinstance(thing, dict):
        return thing.values()
    return thing if isinstance(thing, list | tuple) else getattr(thing, "__dict__", {}).values()
