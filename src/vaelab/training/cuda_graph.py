"""The optimiser step captured once as a CUDA graph, and replayed.

The step of a small network spends most of its time in Python and in kernel launches; a replay is a single launch. A
graph does not see what Python changes between two steps. The learning rate is therefore a tensor on the device, and now
and then a step is taken both with and without the graph, and the results are compared.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vaelab.training.stacked_step import StackedStep
from vaelab.training.step import Step
from vaelab.training.updates import hyperparameters

log = logging.getLogger(__name__)


AnyStep = Step | StackedStep


def captured(step: AnyStep) -> "AnyStep | CapturedStep":
    """Return the step as a `CapturedStep` if it runs on a GPU and its optimiser can be captured, else unchanged."""
    if step.data.device.type != "cuda":
        return step
    if step.world_size > 1:
        reason = "several processes share it"
    elif make_capturable(step.optimizer):
        return CapturedStep(step, CudaGraphs(step.streams))
    else:
        reason = f"{type(step.optimizer).__name__} has no option capturable=True"
    log.warning("the training step is not captured as a CUDA graph: %s", reason)
    return step


class CudaGraphs:
    """Captures functions as CUDA graphs. These may draw from the device's global generator and from `streams`."""

    def __init__(self, streams: Sequence[torch.Generator]) -> None:
        self.streams = streams

    def warm_up(self, function: Callable[[], None]) -> None:
        """Run the function on a side stream, as PyTorch requires before a capture."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function()
        torch.cuda.current_stream().wait_stream(side)

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Record the kernels of the function without running them, and return a function that runs them.

        Raises:
            RuntimeError: the function cannot be captured; the message says why.
        """
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        for generator in self.streams:
            graph.register_generator_state(generator)
        try:
            with torch.cuda.graph(graph):
                function()
        except RuntimeError as error:
            # a failed capture leaves its own stream current, and generators in capture mode
            torch.cuda.set_stream(stream)
            for generator in (torch.cuda.default_generators[stream.device_index], *self.streams):
                generator.graphsafe_set_state(torch.Generator(generator.device).graphsafe_get_state())
            cause = error.__context__  # the error itself may only say that the capture could not end
            raise (cause if isinstance(cause, RuntimeError) else error) from None
        return graph.replay


class CapturedStep:
    """A step that is captured once for each size of minibatch, and replayed from then on.

    For each size the first `WARM_UP` steps run uncaptured. The first replay, and every `AUDIT_EVERY`-th after it, is
    audited: the step also runs uncaptured, and must change all tensors as the replay did. A graph would freeze numbers
    that the model, the objective or the optimiser keeps in Python. If an audit or a check of the optimiser finds such a
    number, training continues uncaptured, with a warning. The optimiser must have passed `make_capturable`.
    """

    WARM_UP = 2
    AUDIT_EVERY = 500

    def __init__(self, step: AnyStep, graphs: CudaGraphs) -> None:
        self.step = step
        self.graphs = graphs
        self.runs: Counter[int] = Counter()
        self.replays: dict[int, tuple[Tensor, Callable[[], None]]] = {}
        self.rate_tensors = [torch.zeros((), device=step.data.device) for _ in self.groups]
        self.rates: list[float] = []  # the values of `rate_tensors`
        self.frozen: list[Any] = []  # `host_numbers` at the last capture
        self.replayed = 0
        self.given_up = False

    @property
    def groups(self) -> list[dict[str, Any]]:
        return self.step.optimizer.param_groups

    def __call__(self, indices: Tensor, size: int, key: Any) -> None:
        """Take one step on a `Minibatch`."""
        if self.replays and host_numbers(self.groups) != self.frozen:
            self.give_up("hyperparameters of the optimizer other than its learning rate change during training")
        if not self.given_up and self.runs[size] < self.WARM_UP:
            self.warm_up(indices, size, key)
        elif not self.given_up and (size in self.replays or self.capture(indices, size)):
            self.replay_or_audit(indices, size, key)
        else:
            self.step(indices, size, key)

    def warm_up(self, indices: Tensor, size: int, key: Any) -> None:
        """Take the step uncaptured; give up if a module changes a Python number, which a graph would freeze."""
        before = plain_numbers(self.step.modules)
        self.runs[size] += 1
        self.graphs.warm_up(lambda: self.step(indices, size, key))
        if plain_numbers(self.step.modules) != before:
            self.give_up("the model or objective keeps Python numbers that change from step to step")

    def capture(self, indices: Tensor, size: int) -> bool:
        """Capture the step for minibatches of this size; return whether that was possible."""
        static, rates = indices.clone(), [group["lr"] for group in self.groups]
        self.step.optimizer.zero_grad()  # the gradients must be allocated in the graph's own memory
        self.set_rates(self.rate_tensors)
        try:
            self.replays[size] = static, self.graphs.capture(lambda: self.step.body(static, size))
        except RuntimeError as error:
            self.give_up(f"it cannot be captured as a CUDA graph ({str(error).splitlines()[0]})")
        finally:
            self.set_rates(rates)
        self.frozen = host_numbers(self.groups)
        return not self.given_up

    def set_rates(self, rates: Sequence[Any]) -> None:
        """Set the learning rate of each group of the optimiser."""
        for group, rate in zip(self.groups, rates, strict=True):
            group["lr"] = rate

    def replay_or_audit(self, indices: Tensor, size: int, key: Any) -> None:
        """Replay the step; when an audit is due, compare it with the uncaptured step, whose result is kept."""
        self.replayed += 1
        if self.replayed % self.AUDIT_EVERY != 1:
            self.replay(indices, size, key)
            return
        state = self.step.state()
        before = [tensor.detach().clone() for tensor in state]
        self.replay(indices, size, key)
        by_replay = changes(state, before)
        with torch.no_grad():
            for tensor, former in zip(state, before, strict=True):
                tensor.copy_(former)
        self.step(indices, size, key)
        if not agree(by_replay, changes(state, before)):
            self.give_up("a replay gives a wrong result: the model or objective keeps a Python number that changes")

    def replay(self, indices: Tensor, size: int, key: Any) -> None:
        """Copy learning rates, indices and seed to the device, and replay the graph."""
        rates = [group["lr"] for group in self.groups]
        if rates != self.rates:
            self.rates = rates
            for tensor, rate in zip(self.rate_tensors, rates, strict=True):
                tensor.fill_(rate)
        static, replay = self.replays[size]
        static.copy_(indices)
        self.step.seed(key)
        replay()

    def give_up(self, reason: str) -> None:
        """Take all further steps uncaptured, with a warning."""
        log.warning("the training step now runs without a CUDA graph, and slower: %s", reason)
        self.given_up = True
        self.replays.clear()


def make_capturable(optimizer: Optimizer) -> bool:
    """Make the optimiser keep its state on the device, as CUDA graphs need. Return False if it has no such option."""
    if not all("capturable" in group for group in optimizer.param_groups):
        return False
    for group in optimizer.param_groups:
        group["capturable"] = True
    for parameter, state in optimizer.state.items():  # after a resume, the state is on the CPU
        state |= {name: v.to(parameter.device) for name, v in state.items() if isinstance(v, Tensor)}
    return True


def uncapturable(groups: Sequence[dict[str, Any]]) -> None:
    """Make an optimiser with these groups of parameters take steps on a CPU too."""
    for group in groups:
        group |= {"capturable": False} if "capturable" in group else {}


def stay_on_cpu(optimizer: Optimizer) -> None:
    """Make an optimiser take steps on a CPU, and create no CUDA context in this process."""
    uncapturable(optimizer.param_groups)
    # Adam would look for a capture on the current stream of a GPU
    vars(optimizer)["_accelerator_graph_capture_health_check"] = lambda: None


def plain_numbers(modules: nn.Module) -> list[Any]:
    """Return the numbers that modules hold as plain attributes."""
    values = [value for module in modules.modules() for value in vars(module).values()]
    return [value for value in values if isinstance(value, bool | int | float)]


def host_numbers(groups: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the numbers in an optimiser's groups that a capture freezes: all except the learning rate."""
    return [hyperparameters(group) for group in groups]


def changes(now: Sequence[Tensor], before: Sequence[Tensor]) -> list[Tensor]:
    """Return the change of each tensor."""
    return [tensor.detach().double() - former.double() for tensor, former in zip(now, before, strict=True)]


def agree(one: Sequence[Tensor], other: Sequence[Tensor], tolerance: float = 0.01) -> bool:
    """Return whether two lists of changes are equal up to rounding: within `tolerance` of the norm of `other`.

    Changes that are not finite count as equal, because `divergence` handles those.
    """
    norms = [((a - b).norm(), b.norm()) for a, b in zip(one, other, strict=True)]
    return all(bool(difference <= tolerance * norm) or not bool(norm.isfinite()) for difference, norm in norms)
