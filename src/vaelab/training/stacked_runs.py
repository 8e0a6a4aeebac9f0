"""Run several runs in threads, one thread at a time, and take their optimiser steps as one stacked step."""

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch

from vaelab.signals import Stop
from vaelab.training.cuda_graph import captured
from vaelab.training.lightning_module import VAEModule
from vaelab.training.stacked_step import StackedStep
from vaelab.training.step import Minibatch


class Ensemble:
    """Runs that share their optimiser steps; each has its own callbacks, evaluation, checkpoints and logs.

    A run whose `VAEModule.together` is this ensemble hands over its next minibatches and waits. When all runs that
    still train are waiting, the conducting thread takes the steps of those with the fewest steps so far; these are all
    runs, once resumed runs have caught up. Only one thread runs at a time, because two must not use PyTorch's global
    state, above all its generators, at once.
    After a signal, all runs stop after the same step, and each writes a checkpoint.
    """

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.turn = threading.Condition()  # the lock that the running thread holds
        self.active = 0  # how many runs have not ended
        self.waiting: dict[VAEModule, Sequence[Minibatch]] = {}  # the work of the waiting runs
        self.taken: dict[VAEModule, int | Exception] = {}  # how many steps were taken for a run, or why they failed
        self.current: tuple[StackedStep, Callable[..., None]] | None = None  # the last step, and what runs it

    def conduct(self, runs: Sequence[Callable[[], None]]) -> None:
        """Run each run to its end in its own thread, and take the steps of all runs in this thread.

        Raises:
            Interrupted: there was a signal, and all runs have stopped.
        """
        threads = [threading.Thread(target=self._in_turn, args=(run,), daemon=True) for run in runs]
        self.active = len(threads)
        self.stop.in_threads = True
        with self.stop.patiently(), self.turn:
            for thread in threads:
                thread.start()
            while self.active:
                self.turn.wait_for(lambda: len(self.waiting) == self.active)
                if self.waiting:
                    self._take_next()
                    self.turn.notify_all()

    def _in_turn(self, run: Callable[[], None]) -> None:
        with self.turn:
            try:
                run()
            finally:
                self.active -= 1
                self.turn.notify_all()

    def __call__(self, module: VAEModule, minibatches: Sequence[Minibatch]) -> int:
        """Wait, in the run's thread, until its steps are taken; return how many were taken, fewer after a signal.

        Raises:
            RuntimeError: a stacked step failed.
        """
        self.waiting[module] = minibatches
        self.turn.notify_all()
        self.turn.wait_for(lambda: module in self.taken)
        taken = self.taken.pop(module)
        if isinstance(taken, Exception):
            reason = " ".join(str(taken).split()) or type(taken).__name__
            raise RuntimeError(f"the stacked step failed ({reason}); type stacked=false") from taken
        return taken

    def _take_next(self) -> None:
        """Take the next steps of the waiting runs that have taken the fewest steps so far."""
        least = min(module.steps for module in self.waiting)
        modules = sorted((m for m in self.waiting if m.steps == least), key=lambda module: module.seed)
        work, device = [self.waiting.pop(module) for module in modules], modules[0].device
        on_gpu = torch.cuda.device(device) if device.type == "cuda" else nullcontext()  # the device is set per thread
        try:
            with on_gpu:
                taken = self._take(modules, work)
        except Exception as error:
            taken = error
        self.taken |= dict.fromkeys(modules, taken)

    def _take(self, modules: Sequence[VAEModule], work: Sequence[Sequence[Minibatch]]) -> int:
        step = self._step_of(modules)
        for taken, minibatches in enumerate(zip(*work, strict=True), start=1):
            indices = torch.stack([minibatch.indices for minibatch in minibatches])
            step(indices, minibatches[0].size, tuple(minibatch.key for minibatch in minibatches))
            moved = [module.advance_schedule("step") for module in modules]
            if any(moved):
                step = self._step_of(modules)
            if self.stop.notice():
                return taken
        return len(work[0])

    def _step_of(self, modules: Sequence[VAEModule]) -> Callable[..., None]:
        """Return the stacked step of these runs. Make a new one only if the last one does not fit them."""
        steps = [module.uncaptured_step for module in modules]
        if self.current is None or not (self.current[0].holds(steps) and self.current[0].follow_rates()):
            stacked = StackedStep(steps)
            self.current = stacked, captured(stacked) if modules[0].cuda_graphs else stacked
        return self.current[1]
