"""Translate a function of z into a program for a page.

The function runs once, on one z, while every operation of PyTorch in it is recorded. So networks and heads need not
know about pages. A new one is translated if its operations, or those that PyTorch decomposes them into, are known.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from vaelab.exploring.program import ELEMENTWISE, REDUCTIONS, Program

COPIES = ("clone", "_unsafe_view", "_to_copy", "convert_element_type")  # the same numbers in the same order
JOINS = ("cat", "stack")


def _mean(x: Tensor, dims: Any = (), keepdim: bool = False, **_: Any) -> Tensor:
    total = x.sum(dims or None, keepdim)
    return total * (total.numel() / x.numel())


def _variance(x: Tensor, dims: Any = (), correction: float = 1, **_: Any) -> Tensor:
    squares = (x - _mean(x, dims, keepdim=True)) ** 2
    total = squares.sum(dims or None)
    return total / (x.numel() / total.numel() - correction)


OURS = {"mean": _mean, "var": _variance}  # instead of PyTorch's own decompositions, which write in place


class NotTranslatedError(Exception):
    """The page cannot run an operation; the message names it."""


@torch.no_grad()
def translate(function: Callable[[Tensor], Tensor], z: Tensor) -> Program:
    """Return the program of a function of z, `[1, latent_dim]`; its result is flat.

    Raises:
        NotTranslatedError: the function does what no step can do, or depends on the values of z otherwise.
    """
    with Recorder(z) as recorder:
        result = function(z)
    return recorder.program(result)


class Recorder(TorchDispatchMode):
    """Record what PyTorch computes from z; run everything else."""

    def __init__(self, z: Tensor) -> None:
        super().__init__()
        self.nodes: list[tuple[str, list[int], Any]] = [("z", [], None)]
        self.numbers = {id(z): 0}  # of tensors that depend on z
        self.alive: list[Any] = [z]  # so that no other tensor gets the id of one of these

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(id(leaf) in self.numbers for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        name = func.name().partition("::")[2].partition(".")[0].removesuffix("_")  # in place or not, it is the same
        if name.endswith("_like") or name.startswith("new_"):
            return func(*args, **kwargs)  # it reads the shape only
        if name in COPIES:
            return self.copied(name, func(*args, **kwargs), args[0])
        if func.is_view or name in JOINS:
            return self.moved(func, args, kwargs)
        numbers = all(isinstance(argument, Tensor | int | float) for argument in args)
        if name in ELEMENTWISE and numbers and not kwargs:
            return self.elementwise(name, func(*args), args)
        if name in REDUCTIONS:
            return self.reduced(name, func(*args, **kwargs), *args)
        if name in ("addmm", "mm") and not kwargs:
            return self.linear(func(*args), *args)
        decompose = OURS.get(name) or decomposition_table.get(func)
        if decompose is None:
            raise NotTranslatedError(name)
        try:
            with self:
                return decompose(*args, **kwargs)
        except NotTranslatedError:  # name the operation that the author of the model knows, not a part of it
            raise NotTranslatedError(name) from None

    def number(self, value: Tensor | float) -> int:
        """Return the number of a node, for a constant a new one."""
        if id(value) not in self.numbers:
            array = np.atleast_1d(np.asarray(value.cpu() if isinstance(value, Tensor) else value, np.float32))
            self.nodes.append(("constant", [], array))
            return len(self.nodes) - 1
        return self.numbers[id(value)]

    def step(self, name: str, inputs: list[int], length: int = 1) -> int:
        """Record a step; return its number."""
        self.nodes.append((name, inputs, length))
        return len(self.nodes) - 1

    def named(self, result: Tensor, number: int) -> Tensor:
        """Give a tensor the number of its node."""
        self.numbers[id(result)] = number
        self.alive.append(result)
        return result

    def picked(self, sources: Sequence[Tensor], index: Tensor) -> int:
        """Return the number of a node that has the numbers of the sources, joined, at these indices."""
        flat = index.flatten()
        if len(sources) == 1 and torch.equal(flat, torch.arange(sources[0].numel()).to(flat)):
            return self.number(sources[0])
        return self.step("take", [*map(self.number, sources), self.number(flat)])

    def copied(self, name: str, result: Tensor, source: Tensor) -> Tensor:
        """Record an operation that copies numbers, perhaps to another precision."""
        if not (result.is_floating_point() or source.dtype in (torch.bool, result.dtype)):
            raise NotTranslatedError(f"{name} to {result.dtype}")
        return self.named(result, self.number(source))

    def moved(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Record an operation that moves numbers: let it move their indices, to see where they go."""
        sources = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        sizes = [source.numel() for source in sources]
        indices = torch.arange(sum(sizes)).split(sizes)
        moving = {id(source): index.view(source.shape) for source, index in zip(sources, indices, strict=True)}
        args_, kwargs_ = tree_map(lambda leaf: moving.get(id(leaf), leaf), (args, kwargs))
        results = func(*args, **kwargs)
        tree_map(lambda a, index: self.named(a, self.picked(sources, index)), results, func(*args_, **kwargs_))
        return results

    def elementwise(self, name: str, result: Tensor, args: Sequence[Any]) -> Tensor:
        """Record an operation on each element. The page repeats shorter inputs, which covers most broadcasts."""
        inputs = []
        for value in args:
            shape = [*value.shape] if isinstance(value, Tensor) else []
            while shape and shape[0] == 1:
                shape.pop(0)
            if shape == [*result.shape[result.dim() - len(shape) :]]:
                inputs.append(self.number(value))
            else:
                inputs.append(self.picked([value], torch.arange(value.numel()).view(value.shape).expand_as(result)))
        return self.named(result, self.step(name, inputs))

    def reduced(self, name: str, result: Tensor, value: Tensor, dims: Any = (), *_: Any) -> Tensor:
        """Record a reduction. Move the reduced dimensions to the end first, because the page reduces neighbours."""
        over = [dim % value.dim() for dim in ([dims] if isinstance(dims, int) else dims or range(value.dim()))]
        order = [dim for dim in range(value.dim()) if dim not in over] + over
        moved = self.picked([value], torch.arange(value.numel()).view(value.shape).permute(order))
        return self.named(result, self.step(name, [moved], value.numel() // result.numel()))

    def linear(self, result: Tensor, *args: Tensor) -> Tensor:
        """Record the product of one row with a constant matrix, and the sum with a constant, if there is one."""
        *bias, row, matrix = args
        if id(matrix) in self.numbers or row.shape[0] != 1 or id(row) not in self.numbers:
            raise NotTranslatedError("the product of two matrices that are not constant")
        added = self.number(bias[0] if bias else torch.zeros(matrix.shape[1]))
        return self.named(result, self.step("linear", [self.number(row), self.number(matrix), added]))

    def program(self, result: Tensor) -> Program:
        """Return what `result` needs as a program."""
        last = self.number(result)
        needed = {last}
        for i in range(last, 0, -1):
            needed |= {*self.nodes[i][1]} if i in needed else set()
        constants = [i for i in sorted(needed - {0}) if self.nodes[i][0] == "constant"]
        steps = [i for i in sorted(needed - {0}) if self.nodes[i][0] != "constant"]
        places = {old: new for new, old in enumerate([0, *constants, *steps])}
        return Program(
            [self.nodes[i][2] for i in constants],
            [(name, [places[j] for j in inputs], length) for name, inputs, length in (self.nodes[i] for i in steps)],
            places[last],
        )
