"""Call a part for a probe, and say what it returned and what it should."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
import torch.distributions as td
from torch import Tensor, nn

from vaelab.errors import ConfigError
from vaelab.runs.own_code import failure_of, is_own, name_of

EXAMPLES = 13  # a number that hardly any axis has, so that another axis is not taken for that of the examples
SAME = 0.01  # of the largest number: more than rounding moves the numbers of an example from batch to batch


def probed(part: object, function: Callable[..., Any], *arguments: Any, method: str = "forward") -> Any:
    """Call a method of a part. Turn any error into a ConfigError that names the method, or the user's own line."""
    try:
        return function(*arguments)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(failure_of(error, f"{name_of(part)}.{method}")) from error


def refuse_result(part: object, method: str, found: object, expected: str, remedy: str = "") -> NoReturn:
    """Refuse what a method of a part returned."""
    remedy = f"; {remedy}" if remedy else ""
    raise ConfigError(f"{name_of(part)}.{method} returned {described(found)}: expected {expected}{remedy}")


def described(found: object) -> str:
    """Return the class of an object, with its shapes if it has any."""
    if found is None or isinstance(found, Tensor):
        return "None" if found is None else f"a tensor of shape {tuple(found.shape)}"
    name, shapes = type(found).__name__, ""
    if isinstance(found, td.Distribution):
        shapes = f" with event_shape {tuple(found.event_shape)} and batch_shape {tuple(found.batch_shape)}"
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}{shapes}"


def check_kind(key: str, found: object, expected: type) -> None:
    """Refuse an object that is not an instance of `expected`; `key` names the object in the configuration."""
    if not isinstance(found, expected):
        waiting = hasattr(found, "func")  # what Hydra makes of a node with `_partial_`
        given = f"a partial: type ~{key}._partial_" if waiting else f"a {name_of(found)}"
        raise ConfigError(f"{key}._target_ must give an instance of {expected.__name__}, found {given}")


def check_tensor(part: object, method: str, found: object, shape: tuple[int, ...], remedy: str = "") -> None:
    """Refuse what is not a tensor of this shape."""
    if not isinstance(found, Tensor) or found.shape != shape:
        refuse_result(part, method, found, f"a tensor of shape {shape}", remedy)


def check_per_example(part: object, method: str, name: str, found: object) -> None:
    """Refuse what is not a value for each example."""
    check_tensor(part, method, found, (EXAMPLES,), f"it is the {name} of {EXAMPLES} examples: give a value for each")


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal but for rounding."""
    largest = one.abs().nan_to_num(0, 0).max()
    return one.shape == other.shape and torch.allclose(one, other, 0, SAME * float(largest), equal_nan=True)


def worth_probing(*modules: nn.Module) -> bool:
    """Return whether any class in the modules is the user's own, and tensors have numbers now.

    vaelab's own classes are tested, and some take a second. On the device `meta`, tensors have shapes only.
    """
    own = any(is_own(part) for module in modules for part in module.modules())
    return own and torch.empty(0).device.type != "meta"


@contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Restore the buffers of the modules, and the state of the global generator, after the `with` block."""
    former = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            for buffer, before in former:
                buffer.data.copy_(before)
