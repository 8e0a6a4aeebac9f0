"""Divergence: find the step after which a number is infinite or NaN, undo it, and go on or stop."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from vaelab.errors import DivergedError
from vaelab.training.divergence_trace import Broken, over_processes, traced_step
from vaelab.training.step import Minibatch, Step, add_up, state_of

OnNan = Literal["stop", "skip", "rollback"]
State = dict[str, Any]
log = logging.getLogger(__name__)


class Guard:
    """Finds the step after which the loss, a metric or a parameter is infinite or NaN, and undoes it.

    The guard checks once per Lightning step, and takes a snapshot of the training state now and then. When a check
    fails, it restores the snapshot and takes the steps since then again one by one, which gives the same numbers,
    because the noise of a step is a function of its number. It undoes the step that fails. Then `on_nan` decides:
    training stops (`stop`), continues with the next minibatch (`skip`), or first restores the weights from the start of
    the epoch and then continues (`rollback`). An undone step counts as a step.
    """

    SNAPSHOT_EVERY = 500  # minimum number of optimiser steps between two snapshots
    LIMIT = 10  # stop training after this many undone steps `in_a_row`

    def __init__(self, on_nan: OnNan = "stop") -> None:
        self.on_nan = on_nan
        self.skipped = 0  # how many steps were undone so far
        self.in_a_row = 0  # how many steps were undone in a row (`skip`), or in this epoch (`rollback`)
        self.epoch_start: State | None = None  # the weights and the optimiser's state then, for `rollback`
        self.snapshot: State | None = None
        self.since_snapshot: list[Minibatch] = []  # of the steps since then

    def start(self, step: Step, advance: Callable[[], Any], scheduler: Any | None) -> None:
        """Guard a training that begins or resumes. `advance` updates the schedule, if any, after an optimiser step."""
        self.step, self.advance, self.scheduler = step, advance, scheduler
        self.forget()

    def begin_epoch(self) -> None:
        """Save the state at the start of an epoch, if `on_nan` is `rollback`."""
        if self.on_nan == "rollback":
            state = self.state()
            self.epoch_start, self.in_a_row = {name: state[name] for name in ("tensors", "optimizer")}, 0

    def before(self) -> None:
        """Take a snapshot if one is due; call it before each Lightning step."""
        if self.snapshot is None or len(self.since_snapshot) >= self.SNAPSHOT_EVERY:
            self.snapshot, self.since_snapshot = self.state(), []

    def after(self, taken: Sequence[Minibatch], sums: Tensor) -> bool:
        """Record the steps just taken; return whether all numbers are finite."""
        self.since_snapshot += taken
        finite = self.all_finite(sums)
        if finite and self.on_nan == "skip":
            self.in_a_row = 0
        return finite

    def forget(self) -> None:
        """Drop the snapshot. Call this after any change between two steps, which a repetition would miss."""
        self.snapshot, self.since_snapshot = None, []

    def all_finite(self, sums: Tensor) -> bool:
        """Return whether the parameters, the optimiser's state, and `sums` (over all processes) are finite."""
        tensors = [sums, *self.step.parameters, *state_of(self.step.optimizer)]
        alike = defaultdict(list)
        for tensor in tensors:
            alike[tensor.dtype, tensor.device].append(tensor)
        # Euclidean norms are ten times faster than largest absolute values, but overflow if a number exceeds 10^19
        norms = [torch._foreach_norm(group) for (dtype, _), group in alike.items() if dtype.is_floating_point]
        if all(torch.stack(group).isfinite().all() for group in norms):
            return True
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def repair(self, taken: Sequence[Minibatch]) -> int:
        """Take the steps since the snapshot again, and undo those after which a number is not finite.

        Return the number of examples in the steps just `taken`, without those of undone steps.

        Raises:
            DivergedError: training must stop; the state is the one before the failing step.
        """
        assert self.snapshot is not None
        self.restore(self.snapshot)
        examples, skipped = 0, self.skipped
        for minibatch in self.since_snapshot:
            if minibatch is taken[0]:
                self.step.take_sums()
                examples = 0
            examples += minibatch.size * self.take_or_undo(minibatch)
            self.advance()
        if self.skipped == skipped:
            log.warning("a number was not finite, but all are finite after the steps were repeated")
        self.forget()
        return examples

    def take_or_undo(self, minibatch: Minibatch) -> bool:
        """Take a step, and undo it if a number is not finite; return whether it was kept."""
        former = self.state()
        broken = traced_step(self.step, minibatch)
        sums = self.step.sums.clone()
        if self.step.world_size > 1:
            add_up([sums])
        if self.all_finite(sums):
            self.in_a_row = 0 if self.on_nan == "skip" else self.in_a_row
            return True
        self.restore(former)
        self.report(self.step.number_of(minibatch.key) + 1, broken)
        if self.epoch_start is not None:  # keep the learning rate, because the schedule is not rolled back
            optimizer = {**former["optimizer"], "state": self.epoch_start["optimizer"]["state"]}
            self.restore({**former, "tensors": self.epoch_start["tensors"], "optimizer": optimizer})
        return False

    def report(self, number: int, broken: Broken) -> None:
        """Count and log an undone step, or raise `DivergedError`."""
        if self.step.world_size > 1:
            broken = over_processes(broken)
        broken.first = broken.first or "a number"
        what = f"at step {number}, {broken} was not finite"
        if self.on_nan == "stop" or self.in_a_row == self.LIMIT:
            before = "" if self.on_nan == "stop" else f"{self.LIMIT} steps were undone before, and "
            left = "; last.ckpt is from before that step" if number > 1 else ""
            raise DivergedError(
                f"training diverged: {before}{what}; lower optimizer.lr, raise the floor of the scale if the decoder "
                f"has one, or type on_nan=skip or on_nan=rollback{left}",
                {"step": number, "not_finite": broken.first, "examples": broken.examples, "batch": broken.batch},
            )
        self.skipped += 1
        self.in_a_row += 1
        on = "the weights that the epoch began with" if self.on_nan == "rollback" else "the next minibatch"
        log.warning("%s: the step is undone, and training goes on with %s", what, on)
        log.info("the examples of its minibatch: %s", broken.batch)

    def state(self) -> State:
        """Return a copy of everything that a step changes."""
        state = {"tensors": self.step.tensors(), "optimizer": self.step.optimizer.state_dict(), "sums": self.step.sums}
        return copied(state | ({} if self.scheduler is None else {"schedule": self.scheduler.state_dict()}))

    def restore(self, state: State) -> None:
        """Go back to a state that `state` returned."""
        state = copied(state)  # steps change the state in place
        for tensor, former in zip(self.step.tensors(), state["tensors"], strict=True):
            tensor.detach().copy_(former)
        self.step.sums.copy_(state["sums"])
        self.step.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["schedule"])

    def state_dict(self) -> State:
        """Return what a checkpoint saves of the guard."""
        state = {"skipped": self.skipped, "in_a_row": self.in_a_row}
        return state | ({} if self.epoch_start is None else {"epoch_start": self.epoch_start})

    def load_state_dict(self, state: State) -> None:
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]
        self.epoch_start = state.get("epoch_start")


def copied(state: State) -> State:
    """Return a copy of nested plain data; each tensor gets its own memory, even if it was a view."""
    return tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), state)
