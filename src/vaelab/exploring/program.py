"""A program that a web page can run: a list of steps, each a small function of arrays."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

# operations on elements a, b, c at the same index: as a function of NumPy, and as JavaScript
ELEMENTWISE: dict[str, tuple[Callable[..., Any], str]] = {
    "add": (np.add, "a + b"),
    "sub": (np.subtract, "a - b"),
    "mul": (np.multiply, "a * b"),
    "div": (np.divide, "a / b"),
    "true_divide": (np.divide, "a / b"),
    "pow": (np.power, "a ** b"),
    "maximum": (np.maximum, "Math.max(a, b)"),
    "minimum": (np.minimum, "Math.min(a, b)"),
    "lt": (np.less, "a < b"),
    "le": (np.less_equal, "a <= b"),
    "gt": (np.greater, "a > b"),
    "ge": (np.greater_equal, "a >= b"),
    "eq": (np.equal, "a === b"),
    "ne": (np.not_equal, "a !== b"),
    "bitwise_or": (np.logical_or, "a || b"),
    "bitwise_and": (np.logical_and, "a && b"),
    "where": (lambda a, b, c: np.where(a != 0, b, c), "a ? b : c"),
    "neg": (np.negative, "-a"),
    "sign": (np.sign, "Math.sign(a)"),
    "abs": (np.abs, "Math.abs(a)"),
    "exp": (np.exp, "Math.exp(a)"),
    "expm1": (np.expm1, "Math.expm1(a)"),
    "log": (np.log, "Math.log(a)"),
    "log1p": (np.log1p, "Math.log1p(a)"),
    "sqrt": (np.sqrt, "Math.sqrt(a)"),
    "rsqrt": (lambda a: a**-0.5, "1 / Math.sqrt(a)"),
    "reciprocal": (np.reciprocal, "1 / a"),
    "tanh": (np.tanh, "Math.tanh(a)"),
    "sigmoid": (expit, "1 / (1 + Math.exp(-a))"),
    "relu": (lambda a: np.maximum(a, 0), "Math.max(a, 0)"),
    "erf": (erf, "erf(a)"),
}
REDUCTIONS: dict[str, tuple[Callable[..., Any], str]] = {  # of an array x to one number
    "sum": (np.sum, "x.reduce((a, b) => a + b)"),
    "amax": (np.max, "Math.max(...x)"),
}
LEAST_HALF = 1000  # numbers of a matrix that is written in half precision; smaller arrays are not worth it

Array = NDArray[np.floating]
Step = tuple[str, list[int], int]  # a name, its inputs as indices of values, and how many numbers a reduction reduces


@dataclass
class Program:
    """A function of z. Its values are z, the constants, and the results of the steps, in this order.

    Args:
        constants: flat arrays; matrices are `[inputs, outputs]`.
        steps: `linear` multiplies a vector with a matrix and adds a vector; `take` picks numbers out of its inputs, by
            the indices that its last input holds; `REDUCTIONS` reduce each so many neighbours to one number;
            others are `ELEMENTWISE`, and repeat shorter inputs.
        result: the index of the value that is the result.
    """

    constants: list[Array]
    steps: list[Step]
    result: int

    def __call__(self, z: Array) -> Array:
        """Run the program, as the page does."""
        values = [z, *(constant.ravel() for constant in self.constants)]
        for name, inputs, length in self.steps:
            of = [values[i] for i in inputs]
            if name == "linear":
                values.append(of[0] @ of[1].reshape(len(of[0]), -1) + of[2])
            elif name == "take":
                values.append(np.concatenate(of[:-1])[of[-1].astype(int)])
            elif name in REDUCTIONS:
                values.append(REDUCTIONS[name][0](of[0].reshape(-1, length), axis=1))
            else:
                size = max(map(len, of))
                values.append(np.asarray(ELEMENTWISE[name][0](*(np.resize(value, size) for value in of)), float))
        return values[self.result]

    @property
    def num_bytes(self) -> int:
        """Return the size of the constants."""
        return sum(constant.nbytes for constant in self.constants)

    def halved(self) -> "Program":
        """Return the program with its large matrices in half precision."""
        large = {inputs[1] - 1 for name, inputs, _ in self.steps if name == "linear"}
        with np.errstate(over="ignore"):  # whoever compares the results finds infinite weights
            constants = [
                constant.astype(np.float16) if i in large and constant.size >= LEAST_HALF else constant
                for i, constant in enumerate(self.constants)
            ]
        return Program(constants, self.steps, self.result)

    def written(self) -> dict[str, Any]:
        """Return the program as plain data, with the constants of each precision in base64."""
        halves = [constant.dtype == np.float16 for constant in self.constants]
        joined = {"half": b"", "single": b""}
        for constant, half in zip(self.constants, halves, strict=True):
            joined["half" if half else "single"] += constant.tobytes()
        return {
            "steps": self.steps,
            "sizes": [constant.size for constant in self.constants],
            "halves": halves,
            "result": self.result,
            **{name: base64.b64encode(content).decode() for name, content in joined.items()},
        }
