"""Has the training steps of several runs taken together: each run in a thread of its own, one of them at a time."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from vaelab.capture import CapturedStep, captured
from vaelab.module import VAEModule
from vaelab.stacked import StackedStep
from vaelab.steps import Minibatch, Step


class InterruptedTogether(BaseException):
    """Raised in each of several runs when the program is told to stop."""


class Ensemble:
    """Runs that go their own ways (callbacks, evaluation, checkpoints, logs), except that their steps are stacked.

    A run whose `VAEModule.together` this is comes here with its next minibatches, and waits. Once all do that are
    still training, the thread that conducts takes the steps of those whose minibatches are of the same sizes. Threads
    take turns, so that nothing of PyTorch's that is global, its generators above all, is used by two at a time.
    """

    def __init__(self) -> None:
        self.turn = threading.Condition()
        self.active = 0
        self.waiting: dict[VAEModule, Sequence[Minibatch]] = {}
        self.error: BaseException | None = None
        self.formed: tuple[StackedStep, Step | CapturedStep] | None = None

    def conduct(self, runs: Sequence[Callable[[], None]]) -> None:
        """Has all runs run to their end, in threads; takes their steps in this one.

        Raises:
            BaseException: what interrupted it, after each run was told so.
        """
        threads = [threading.Thread(target=self._in_turn, args=(run,), daemon=True) for run in runs]
        self.active = len(threads)
        with self.turn:
            for thread in threads:
                thread.start()
            while self.active:
                try:
                    self.turn.wait_for(lambda: len(self.waiting) == self.active)
                    self._take_all()
                except BaseException as error:
                    if self.error is not None and not isinstance(error, Exception):
                        raise  # told to stop once more: the threads end with the process
                    self.error = error
                self.waiting.clear()
                self.turn.notify_all()
        if self.error is not None and not isinstance(self.error, Exception):
            raise self.error

    def _in_turn(self, run: Callable[[], None]) -> None:
        with self.turn:
            try:
                run()
            finally:
                self.active -= 1
                self.turn.notify_all()

    def __call__(self, module: VAEModule, minibatches: Sequence[Minibatch]) -> None:
        """Waits until the steps are taken.

        Raises:
            RuntimeError: they could not be.
            InterruptedTogether: the program is told to stop.
        """
        self.waiting[module] = minibatches
        self.turn.notify_all()
        self.turn.wait_for(lambda: module not in self.waiting)
        if isinstance(self.error, Exception):
            raise RuntimeError(f"the stacked step failed ({self.error}); stacked=false does without") from self.error
        if self.error is not None:
            raise InterruptedTogether(type(self.error).__name__) from self.error

    def _take_all(self) -> None:
        alike: dict[tuple[int, ...], list[VAEModule]] = defaultdict(list)
        for module in sorted(self.waiting, key=lambda module: module.seed):
            alike[tuple(minibatch.size for minibatch in self.waiting[module])].append(module)
        for modules in alike.values():
            with modules[0].trainer.precision_plugin.train_step_context(), on_device(modules[0]):
                self._take(modules)

    def _take(self, modules: Sequence[VAEModule]) -> None:
        step = self._step_of(modules)
        for minibatches in zip(*(self.waiting[module] for module in modules), strict=True):
            if modules[0].lr_schedule is not None:
                step = self._step_of(modules)
            indices = torch.stack([minibatch.indices for minibatch in minibatches])
            step(indices, minibatches[0].size, tuple(minibatch.key for minibatch in minibatches))  # type: ignore[arg-type]
            for module in modules:
                module.advance_schedule("step")

    def _step_of(self, modules: Sequence[VAEModule]) -> Step | CapturedStep:
        """The step of all these: the last one, or a new one if that was of others."""
        steps = [module.own_step for module in modules]
        if self.formed is None or not (self.formed[0].holds(steps) and self.formed[0].follow_rates()):
            stacked = StackedStep(steps)
            self.formed = stacked, captured(stacked, stacked.streams) if modules[0].cuda_graphs else stacked
        return self.formed[1]


def on_device(module: VAEModule) -> AbstractContextManager[object]:
    """Makes the device of a run, which its thread settled for itself, this thread's."""
    return torch.cuda.device(module.device) if module.device.type == "cuda" else nullcontext()
