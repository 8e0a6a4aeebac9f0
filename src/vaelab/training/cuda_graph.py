"""The optimiser step captured once as a CUDA graph, and replayed.

A step of so small a network is bound by Python and by kernel launches. Replayed, it is one launch; what a graph cannot
know of is what Python does between two steps, so the learning rate goes in through the device, and now and then a step
is taken both ways and compared.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer

from vaelab.data import ImageData

log = logging.getLogger(__name__)


@runtime_checkable
class AnyStep(Protocol):
    """What a `CapturedStep` asks of a step, of one model (`Step`) or many (`StackedStep`)."""

    data: ImageData
    optimizer: Optimizer
    world_size: int

    def __call__(self, indices: Tensor, size: int, key: Any) -> None: ...

    def seed(self, key: Any) -> None: ...

    def body(self, indices: Tensor, size: int) -> None: ...

    def state(self) -> list[Tensor]: ...


def captured(step: AnyStep, streams: Sequence[torch.Generator] = ()) -> "AnyStep | CapturedStep":
    """The step as a CUDA graph, where it runs on a GPU and its optimiser allows it; else as it is.

    Args:
        step: what to capture.
        streams: generators, other than the device's own, that it draws from.
    """
    if step.data.device.type != "cuda":
        return step
    if step.world_size > 1 or not make_capturable(step.optimizer):
        optimizer = f"{type(step.optimizer).__name__} has no capturable form"
        reason = "several processes share it" if step.world_size > 1 else optimizer
        log.warning("the training step is not captured as a CUDA graph: %s", reason)
        return step
    return CapturedStep(step, CudaGraphs(streams))


class CudaGraphs:
    """What a `CapturedStep` needs of the device: CUDA's graphs, by way of PyTorch.

    Args:
        streams: generators, other than the device's own, that a captured function draws from.
    """

    def __init__(self, streams: Sequence[torch.Generator] = ()) -> None:
        self.streams = streams

    def warm_up(self, function: Callable[[], None]) -> None:
        """Runs the function as captures want it to have been run before."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function()
        torch.cuda.current_stream().wait_stream(side)

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Records what the function does without doing it; returns what does it.

        Raises:
            RuntimeError: it cannot be captured; says why.
        """
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        for generator in self.streams:
            graph.register_generator_state(generator)
        try:
            with torch.cuda.graph(graph):
                function()
        except RuntimeError as error:
            torch.cuda.set_stream(
                stream
            )  # a capture that fails leaves us on its own, and generators waiting for its end
            for generator in (torch.cuda.default_generators[stream.device_index], *self.streams):
                generator.graphsafe_set_state(torch.Generator(generator.device).graphsafe_get_state())
            cause = error.__context__  # the error itself may be of ending the capture
            if isinstance(cause, RuntimeError):
                raise cause from None
            raise
        return graph.replay


class CapturedStep:
    """A `Step` that is captured once for each size of minibatch, and from then on replayed.

    Each size first runs `WARM_UP` times as it stands. One in `AUDIT_EVERY` replayed steps, the first among them, is
    also taken as it stands, and the two must change all tensors alike. A model or objective that keeps numbers of its
    own in Python, which a graph would freeze, is found out by these numbers, or by that comparison, and training goes
    on uncaptured, with a warning.

    Args:
        step: what to capture; its optimiser must have passed `make_capturable`.
        graphs: how to capture.
    """

    WARM_UP = 2
    AUDIT_EVERY = 500

    def __init__(self, step: AnyStep, graphs: CudaGraphs) -> None:
        self.step = step
        self.graphs = graphs
        self.runs: Counter[int] = Counter()
        self.replays: dict[int, tuple[Tensor, Callable[[], None]]] = {}
        self.rates = [torch.zeros((), device=step.data.device) for _ in step.optimizer.param_groups]
        self.rates_are: list[float] = []
        self.frozen: list[Any] = []
        self.replayed = 0
        self.given_up = False

    def __call__(self, indices: Tensor, size: int, key: Any) -> None:
        """Takes one step, on a `Minibatch`."""
        if self.replays and host_numbers(self.step.optimizer) != self.frozen:
            self.give_up("numbers of the optimizer other than its learning rate change while it trains")
        if self.given_up:
            self.step(indices, size, key)
        elif self.runs[size] < self.WARM_UP:
            self.warm_up(indices, size, key)
        elif size in self.replays or self.capture(indices, size):
            self.replay_or_audit(indices, size, key)
        else:
            self.step(indices, size, key)

    def warm_up(self, indices: Tensor, size: int, key: Any) -> None:
        """Take the step as it stands."""
        self.runs[size] += 1
        self.graphs.warm_up(lambda: self.step(indices, size, key))

    def capture(self, indices: Tensor, size: int) -> bool:
        """Captures the step for minibatches of this size; returns whether that was possible."""
        groups, static = self.step.optimizer.param_groups, indices.clone()
        rates = [group["lr"] for group in groups]
        self.step.optimizer.zero_grad()  # so that the gradients live in the graph's own memory
        try:
            for group, rate in zip(groups, self.rates, strict=True):
                group["lr"] = rate
            self.replays[size] = static, self.graphs.capture(lambda: self.step.body(static, size))
        except RuntimeError as error:
            self.give_up(f"it cannot be captured as a CUDA graph ({str(error).splitlines()[0]})")
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
        self.frozen = host_numbers(self.step.optimizer)
        return not self.given_up

    def replay_or_audit(self, indices: Tensor, size: int, key: Any) -> None:
        self.replayed += 1
        if self.replayed % self.AUDIT_EVERY != 1:
            self.replay(indices, size, key)
            return
        both = changes(
            lambda: self.replay(indices, size, key), lambda: self.step(indices, size, key), self.step.state()
        )
        if not agree(*both):
            self.give_up("replayed it would train otherwise: something in the model or objective changes in Python")

    def replay(self, indices: Tensor, size: int, key: Any) -> None:
        rates = [group["lr"] for group in self.step.optimizer.param_groups]
        if rates != self.rates_are:
            self.rates_are = rates
            for tensor, rate in zip(self.rates, rates, strict=True):
                tensor.fill_(rate)
        static, replay = self.replays[size]
        static.copy_(indices)
        self.step.seed(key)
        replay()

    def give_up(self, reason: str) -> None:
        log.warning("the training step runs uncaptured, and slower: %s", reason)
        self.given_up = True
        self.replays.clear()


def make_capturable(optimizer: Optimizer) -> bool:
    """Has the optimiser keep its state on the device, as captures need; returns whether it can."""
    if not all("capturable" in group for group in optimizer.param_groups):
        return False
    for group in optimizer.param_groups:
        group["capturable"] = True
    for parameter, state in optimizer.state.items():  # of a resumed run
        state |= {name: v.to(parameter.device) for name, v in state.items() if isinstance(v, Tensor)}
    return True


def portable(optimizer_state: dict[str, Any]) -> None:
    """Makes the state dict of an optimiser that was captured one that a CPU can load as well, in place."""
    for group in optimizer_state["param_groups"]:
        group |= {"capturable": False} if "capturable" in group else {}


def host_numbers(optimizer: Optimizer) -> list[Any]:
    """Everything in the optimiser's groups that a capture freezes; not the learning rate, which goes in by a tensor."""
    return [[v for name, v in group.items() if name not in ("params", "lr")] for group in optimizer.param_groups]


def changes(
    fast: Callable[[], None], slow: Callable[[], None], state: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """How each way to step changes `state`, from the same start; afterwards the slow one has been taken."""
    before = [tensor.detach().clone() for tensor in state]
    fast()
    by_fast = [tensor.detach().double() - former.double() for tensor, former in zip(state, before, strict=True)]
    with torch.no_grad():
        for tensor, former in zip(state, before, strict=True):
            tensor.copy_(former)
    slow()
    return by_fast, [tensor.detach().double() - former.double() for tensor, former in zip(state, before, strict=True)]


def agree(one: Sequence[Tensor], other: Sequence[Tensor], tolerance: float = 0.01) -> bool:
    """Whether changes are the same but for rounding: each differs by less than `tolerance` of its own norm.

    Changes that are not numbers any more agree as well: that training diverges is for others to say.
    """
    norms = [((a - b).norm(), b.norm()) for a, b in zip(one, other, strict=True)]
    return all(bool(difference <= tolerance * norm) or not bool(norm.isfinite()) for difference, norm in norms)
