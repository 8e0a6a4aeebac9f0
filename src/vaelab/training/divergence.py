"""Training whose numbers are no longer finite: the step that broke them, what broke first, and how it goes on."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from vaelab.errors import DivergedError
from vaelab.training.divergence_trace import Broken, of_all_processes, take_watching
from vaelab.training.step import Minibatch, Step, add_up
from vaelab.training.tensors import copied, leaves

OnNan = Literal["stop", "skip", "rollback"]
State = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass
class Guard:
    """Finds the step after which the bound or a parameter is infinite or not a number, and undoes it.

    Training is looked at once per Lightning step, and what was before is kept in memory now and then. Since a step's
    noise is a function of its number, taking the steps since then again, one by one, shows which of them it was. That
    one is undone; by `on_nan` training then stops, goes on with the next minibatch (`skip`), or goes on with it from
    the state that the epoch began with (`rollback`). Steps that are undone count as steps.

    Args:
        on_nan: see above.
        keep_every: optimiser steps from one kept state to the next, at least.
        limit: so many undone steps in a row (`skip`), or in one epoch (`rollback`), are too many.

    Attributes:
        skipped: steps undone so far.
    """

    on_nan: OnNan = "stop"
    keep_every: int = 500
    limit: int = 10
    skipped: int = 0
    in_a_row: int = 0
    epoch_start: State | None = None
    kept: State | None = None
    since: list[Minibatch] = field(default_factory=list)

    def start(self, step: Step, advance: Callable[[], None], scheduler: Any | None) -> None:
        """Has training begin, or go on: with this step, and `advance` to be called after each."""
        self.step, self.advance, self.scheduler = step, advance, scheduler
        self.forget()

    def begin_epoch(self) -> None:
        """Keeps what an epoch begins with."""
        if self.on_nan == "rollback":
            state = self.state()
            self.epoch_start, self.in_a_row = {name: state[name] for name in ("tensors", "optimizer")}, 0

    def before(self, minibatches: Sequence[Minibatch]) -> None:
        """Takes note of the steps that come next."""
        if self.kept is None or len(self.since) >= self.keep_every:
            self.kept, self.since = self.state(), []
        self.since += minibatches

    def after(self, taken: int, given: int, sums: Tensor) -> bool:
        """Takes note that `taken` of the `given` steps were taken; returns whether all numbers are finite."""
        del self.since[len(self.since) - given + taken :]
        sound = self.sound(sums)
        if sound and self.on_nan == "skip":
            self.in_a_row = 0
        return sound

    def forget(self) -> None:
        """What was kept is of no use any more, since something else than steps has changed the learning rate."""
        self.kept, self.since = None, []

    def sound(self, sums: Tensor) -> bool:
        """Whether the `sums` over all processes, the parameters and the optimiser's state are finite."""
        tensors = [*self.step.parameters, *leaves(list(self.step.optimizer.state.values()))]
        largest = torch._foreach_norm([tensor for tensor in tensors if tensor.is_floating_point()], float("inf"))
        return bool(sums.isfinite().all()) and all(bool(norm.isfinite()) for norm in largest)

    def mend(self, taken: int) -> int:
        """Takes the steps since the kept state again, without those that break something.

        Args:
            taken: how many of them are of the last call.

        Returns:
            How many examples of the last call count.

        Raises:
            DivergedError: training has to stop; the state is that before the step that broke.
        """
        assert self.kept is not None
        self.restore(self.kept)
        first, examples, skipped = len(self.since) - taken, 0, self.skipped
        for i, minibatch in enumerate(self.since):
            if i == first:
                self.step.take_sums()
            examples += self._take(minibatch, max(i - first, 0)) * (minibatch.size if i >= first else 0)
            self.advance()
        if self.skipped == skipped:
            log.warning("numbers were not finite, but are so when the steps are taken again")
        self.forget()
        return examples

    def _take(self, minibatch: Minibatch, taken: int) -> bool:
        """Takes a step, or undoes it; returns which."""
        former = self.state()
        broken = take_watching(self.step, minibatch)
        sums = self.step.sums.clone()
        if self.step.world_size > 1:
            add_up([sums])
        if self.sound(sums):
            self.in_a_row = 0 if self.on_nan == "skip" else self.in_a_row
            return True
        self.restore(former)
        self._undone(minibatch, broken, taken)
        if self.on_nan == "rollback":
            self._roll_back()
        return False

    def _roll_back(self) -> None:
        assert self.epoch_start is not None
        numbers = [{k: v for k, v in group.items() if k != "params"} for group in self.step.optimizer.param_groups]
        self._put_back(self.epoch_start)
        for group, former in zip(self.step.optimizer.param_groups, numbers, strict=True):
            group.update(former)  # the learning rate is the schedule's, which goes on

    def _undone(self, minibatch: Minibatch, broken: Broken, taken: int) -> None:
        number = self.step.number_of(minibatch.key) + 1
        batch = minibatch.indices.tolist()
        if self.step.world_size > 1:
            broken, batch = of_all_processes(broken, batch)
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
        """A copy of all that a step changes."""
        state = {"tensors": self._tensors(), "optimizer": self.step.optimizer.state_dict()}
        schedule = {} if self.scheduler is None else {"schedule": self.scheduler.state_dict()}
        return copied(state | schedule | {"sums": self.step.sums})

    def restore(self, state: State) -> None:
        """Goes back to such a state."""
        self._put_back(state)
        self.step.sums.copy_(state["sums"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(copied(state["schedule"]))

    def _put_back(self, state: State) -> None:
        with torch.no_grad():
            for tensor, former in zip(self._tensors(), state["tensors"], strict=True):
                tensor.copy_(former)
        self.step.optimizer.load_state_dict(copied(state["optimizer"]))  # which would train on the tensors given

    def _tensors(self) -> list[Tensor]:
        return [*self.step.modules.parameters(), *self.step.modules.buffers()]

    def state_dict(self) -> State:
        """What a checkpoint holds of the guard itself."""
        state = {"skipped": self.skipped, "in_a_row": self.in_a_row}
        return state | ({} if self.epoch_start is None else {"epoch_start": self.epoch_start})

    def load_state_dict(self, state: State) -> None:
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]
        self.epoch_start = state.get("epoch_start")
