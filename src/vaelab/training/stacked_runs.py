"""Has the training steps of several runs taken together: each run in a thread of its own, one of them at a time."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from vaelab.signals import Stop
from vaelab.training.cuda_graph import AnyStep, CapturedStep, captured
from vaelab.training.lightning_module import VAEModule
from vaelab.training.schedules import Interval
from vaelab.training.stacked_step import StackedStep
from vaelab.training.step import Minibatch


class Ensemble:
    """Runs that go their own ways (callbacks, evaluation, checkpoints, logs), except that their steps are stacked.

    A run whose `VAEModule.together` this is comes here with its next minibatches, and waits. Once all do that are
    still training, the thread that conducts takes the steps of those that have taken the fewest so far: which is all
    of them, once runs that were resumed have caught up. Threads take turns, so that nothing of PyTorch's that is
    global, its generators above all, is used by two at a time.

    Args:
        stop: tells of signals: all runs then stop, each with a checkpoint after the same step.
    """

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.turn = threading.Condition()
        self.active = 0
        self.waiting: dict[VAEModule, Sequence[Minibatch]] = {}
        self.taken: dict[VAEModule, int] = {}
        self.error: RuntimeError | None = None
        self.formed: tuple[StackedStep, AnyStep | CapturedStep] | None = None

    def conduct(self, runs: Sequence[Callable[[], None]]) -> None:
        """Has all runs run to their end, in threads; takes their steps in this one.

        Raises:
            Interrupted: a signal told the program to stop, and each run has done so.
        """
        threads = [threading.Thread(target=self._in_turn, args=(run,), daemon=True) for run in runs]
        self.active = len(threads)
        self.stop.in_threads = True
        with self.stop.patiently(), self.turn:
            for thread in threads:
                thread.start()
            while self.active:
                self.turn.wait_for(lambda: len(self.waiting) == self.active)
                self._let_go(self._take_next() if self.error is None else list(self.waiting))

    def _in_turn(self, run: Callable[[], None]) -> None:
        with self.turn:
            try:
                run()
            finally:
                self.active -= 1
                self.turn.notify_all()

    def _let_go(self, modules: Sequence[VAEModule]) -> None:
        for module in modules:
            del self.waiting[module]
        self.turn.notify_all()

    def take(self, module: VAEModule, minibatches: Sequence[Minibatch]) -> int:
        """Waits until the steps of a run are taken, in the run's thread; returns how many were, before a signal.

        Raises:
            RuntimeError: they could not be.
        """
        self._go_on()
        self.waiting[module] = minibatches
        self.turn.notify_all()
        self.turn.wait_for(lambda: module not in self.waiting)
        self._go_on()
        return self.taken.pop(module)

    def _go_on(self) -> None:
        if self.error is not None:
            raise RuntimeError(f"the stacked step failed ({self.error}); stacked=false does without") from self.error

    def _take_next(self) -> list[VAEModule]:
        """Takes the steps of the runs that are behind, and returns these; or keeps the error."""
        least = min((module.steps for module in self.waiting), default=0)
        modules = sorted((m for m in self.waiting if m.steps == least), key=lambda module: module.seed)
        try:
            if modules:
                with modules[0].trainer.precision_plugin.train_step_context(), on_device(modules[0]):
                    self._take(modules)
        except Exception as error:
            self.error = self.error or RuntimeError(" ".join(str(error).split()) or type(error).__name__)
            self.error.__cause__ = error
            return list(self.waiting)
        return modules

    def _take(self, modules: Sequence[VAEModule]) -> None:
        step = self._step_of(modules)
        for taken, minibatches in enumerate(zip(*(self.waiting[module] for module in modules), strict=True), start=1):
            indices = torch.stack([minibatch.indices for minibatch in minibatches])
            step(indices, minibatches[0].size, tuple(minibatch.key for minibatch in minibatches))
            if is_scheduled(modules[0], "step"):
                for module in modules:
                    module.advance_schedule("step")
                step = self._step_of(modules)
            self.taken |= dict.fromkeys(modules, taken)
            if self.stop.notice():
                return

    def _step_of(self, modules: Sequence[VAEModule]) -> AnyStep | CapturedStep:
        """The step of all these: the last one, or a new one if that was of others."""
        steps = [module.own_step for module in modules]
        if self.formed is None or not (self.formed[0].holds(steps) and self.formed[0].follow_rates()):
            stacked = StackedStep(steps)
            self.formed = stacked, captured(stacked, stacked.streams) if modules[0].cuda_graphs else stacked
        return self.formed[1]


def is_scheduled(module: VAEModule, interval: Interval) -> bool:
    """Whether the run's learning rate may move after every such interval."""
    return module.lr_schedule is not None and module.lr_schedule.interval == interval


def on_device(module: VAEModule) -> AbstractContextManager[object]:
    """Makes the device of a run, which its thread settled for itself, this thread's."""
    return torch.cuda.device(module.device) if module.device.type == "cuda" else nullcontext()
