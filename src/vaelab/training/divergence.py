"""Divergence, training whose numbers are no longer finite: find the step that caused it, undo it, and go on or stop."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from vaelab.errors import DivergedError
from vaelab.training.divergence_trace import Broken, merged_over_processes, traced_step
from vaelab.training.step import Minibatch, Step, add_up
from vaelab.training.tensors import copied, leaves

OnNan = Literal["stop", "skip", "rollback"]
State = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass
class Guard:
    """Finds the step after which the loss, a metric or a parameter is infinite or NaN, and undoes it.

    The guard checks once per Lightning step, and takes a snapshot of the training state now and then. When a check
    fails, it restores the snapshot and takes the steps since then again one by one, which gives the same numbers,
    because the noise of a step is a function of its number. It undoes the step that fails. Then, by `on_nan`, training
    stops (`stop`), goes on with the next minibatch (`skip`), or does so from the weights at the start of the epoch
    (`rollback`). An undone step counts as a step.

    Args:
        on_nan: see above.
        snapshot_every: the fewest optimiser steps between two snapshots.
        limit: stop after so many undone steps in a row (`skip`), or in one epoch (`rollback`).

    Attributes:
        skipped: how many steps were undone so far.
        in_a_row: how many steps were undone in a row, or in this epoch.
        epoch_start: the weights and the optimiser's state at the start of the epoch, for `rollback`.
        snapshot: the training state at the last snapshot.
        since_snapshot: the minibatches of the steps since then.
    """

    on_nan: OnNan = "stop"
    snapshot_every: int = 500
    limit: int = 10
    skipped: int = 0
    in_a_row: int = 0
    epoch_start: State | None = None
    snapshot: State | None = None
    since_snapshot: list[Minibatch] = field(default_factory=list)

    def start(self, step: Step, advance: Callable[[], None], scheduler: Any | None) -> None:
        """Guard a training that begins or resumes.

        Args:
            step: the optimiser step.
            advance: moves the schedule after each step.
            scheduler: the learning rate scheduler, if any.
        """
        self.step, self.advance, self.scheduler = step, advance, scheduler
        self.forget()

    def begin_epoch(self) -> None:
        """Save the state at the start of an epoch, if `on_nan` is `rollback`."""
        if self.on_nan == "rollback":
            state = self.state()
            self.epoch_start, self.in_a_row = {name: state[name] for name in ("tensors", "optimizer")}, 0

    def before(self, minibatches: Sequence[Minibatch]) -> None:
        """Record the minibatches of the next steps; take a snapshot first if one is due."""
        if self.snapshot is None or len(self.since_snapshot) >= self.snapshot_every:
            self.snapshot, self.since_snapshot = self.state(), []
        self.since_snapshot += minibatches

    def after(self, taken: int, given: int, sums: Tensor) -> bool:
        """Record that only `taken` of the `given` steps were taken; return whether all numbers are finite."""
        del self.since_snapshot[len(self.since_snapshot) - given + taken :]
        finite = self.all_finite(sums)
        if finite and self.on_nan == "skip":
            self.in_a_row = 0
        return finite

    def forget(self) -> None:
        """Drop the snapshot; steps from it would not repeat, because the learning rate changed between two steps."""
        self.snapshot, self.since_snapshot = None, []

    def all_finite(self, sums: Tensor) -> bool:
        """Return whether the `sums` over all processes, the parameters and the optimiser's state are finite."""
        tensors = [*self.step.parameters, *leaves(list(self.step.optimizer.state.values()))]
        largest = torch._foreach_norm([tensor for tensor in tensors if tensor.is_floating_point()], float("inf"))
        return bool(sums.isfinite().all()) and all(bool(norm.isfinite()) for norm in largest)

    def repair(self, taken: int) -> int:
        """Take the steps since the snapshot again, and undo those after which a number is not finite.

        Args:
            taken: how many of these steps belong to the current Lightning step.

        Returns:
            The number of examples in the current Lightning step, without those of undone steps.

        Raises:
            DivergedError: training must stop; the state is the one before the failing step.
        """
        assert self.snapshot is not None
        self.restore(self.snapshot)
        first, examples, skipped = len(self.since_snapshot) - taken, 0, self.skipped
        for i, minibatch in enumerate(self.since_snapshot):
            if i == first:
                self.step.take_sums()
            examples += self._take_or_undo(minibatch, max(i - first, 0)) * (minibatch.size if i >= first else 0)
            self.advance()
        if self.skipped == skipped:
            log.warning("numbers were not finite, but are so when the steps are taken again")
        self.forget()
        return examples

    def _take_or_undo(self, minibatch: Minibatch, taken: int) -> bool:
        """Take a step, and undo it if a number is not finite; return whether it stays."""
        former = self.state()
        broken = traced_step(self.step, minibatch)
        sums = self.step.sums.clone()
        if self.step.world_size > 1:
            add_up([sums])
        if self.all_finite(sums):
            self.in_a_row = 0 if self.on_nan == "skip" else self.in_a_row
            return True
        self.restore(former)
        self._report(minibatch, broken, taken)
        if self.on_nan == "rollback":
            self._roll_back()
        return False

    def _roll_back(self) -> None:
        assert self.epoch_start is not None
        numbers = [{k: v for k, v in group.items() if k != "params"} for group in self.step.optimizer.param_groups]
        self._put_back(self.epoch_start)
        for group, former in zip(self.step.optimizer.param_groups, numbers, strict=True):
            group.update(former)  # keep the learning rate, because the schedule is not rolled back

    def _report(self, minibatch: Minibatch, broken: Broken, taken: int) -> None:
        """Count and log an undone step, or raise `DivergedError`."""
        number = self.step.number_of(minibatch.key) + 1
        batch = minibatch.indices.tolist()
        if self.step.world_size > 1:
            broken, batch = merged_over_processes(broken, batch)
        details = {"step": number, "not_finite": broken.first, "examples": broken.examples, "batch": batch}
        what = f"at step {number}, {broken} was not finite"
        if self.on_nan == "stop" or self.in_a_row == self.limit:
            before = "" if self.on_nan == "stop" else f"{self.limit} steps were undone before, and "
            left = "; last.ckpt is from before that step" if number > 1 else ""
            raise DivergedError(
                f"training diverged: {before}{what}; lower optimizer.lr, raise the floor of the scale if the decoder "
                f"has one, or type on_nan=skip or rollback{left}",
                *(details, taken),
            )
        self.skipped += 1
        self.in_a_row += 1
        on = "the weights that the epoch began with" if self.on_nan == "rollback" else "the next minibatch"
        log.warning("%s: the step is undone, and training goes on with %s", what, on)
        log.info("its minibatch: %s", batch)

    def state(self) -> State:
        """Return a copy of everything that a step changes."""
        state = {"tensors": self._tensors(), "optimizer": self.step.optimizer.state_dict()}
        schedule = {} if self.scheduler is None else {"schedule": self.scheduler.state_dict()}
        return copied(state | schedule | {"sums": self.step.sums})

    def restore(self, state: State) -> None:
        """Go back to a state from `state`."""
        self._put_back(state)
        self.step.sums.copy_(state["sums"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(copied(state["schedule"]))

    def _put_back(self, state: State) -> None:
        with torch.no_grad():
            for tensor, former in zip(self._tensors(), state["tensors"], strict=True):
                tensor.copy_(former)
        self.step.optimizer.load_state_dict(copied(state["optimizer"]))  # a copy, because steps change it in place

    def _tensors(self) -> list[Tensor]:
        return [*self.step.modules.parameters(), *self.step.modules.buffers()]

    def state_dict(self) -> State:
        """Return the part of the guard's state that checkpoints save."""
        state = {"skipped": self.skipped, "in_a_row": self.in_a_row}
        return state | ({} if self.epoch_start is None else {"epoch_start": self.epoch_start})

    def load_state_dict(self, state: State) -> None:
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]
        self.epoch_start = state.get("epoch_start")
