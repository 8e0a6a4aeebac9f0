"""Callbacks that are not vaelab's: which act at every optimiser step, which ended a training, which raised an error."""

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import Callback, Trainer

from vaelab.data import ImageData

IN_STEPS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
PER_STEP = ("on_train_batch_start", "on_train_batch_end", *IN_STEPS)
log = logging.getLogger(__name__)

ON_CPU, ON_GPU = 50, 250  # optimiser steps per Lightning step; a GPU's are shorter, so Lightning's cost counts more


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return the callbacks of a trainer, in the order in which Lightning calls them."""
    return trainer.callbacks  # type: ignore[attr-defined]


def others(callbacks: Sequence[Callback], hooks: Sequence[str] = ()) -> list[Callback]:
    """Return the callbacks that are not vaelab's; with `hooks`, only those that have at least one of them.

    A callback has a hook from its class, or because it was given a function, as Lightning's `LambdaCallback` is.
    """
    theirs = [callback for callback in callbacks if not type(callback).__module__.startswith("vaelab.")]
    return [callback for callback in theirs if not hooks or any(_has(callback, hook) for hook in hooks)]


def _has(callback: Callback, hook: str) -> bool:
    found = getattr(callback, hook)
    return getattr(found, "__func__", found) is not getattr(Callback, hook)


def names_of(callbacks: Sequence[Callback]) -> str:
    """Return the classes of callbacks, for a message."""
    return " and ".join(type(callback).__name__ for callback in callbacks)


def why_stopped(trainer: Trainer) -> str | None:
    """Return why a callback told the trainer to stop; None if none did. Limits and signals do not use `should_stop`."""
    if not trainer.should_stop:
        return None
    reasons = [getattr(callback, "stopping_reason_message", None) for callback in callbacks_of(trainer)]
    said = " ".join(str(reason) for reason in reasons if reason).removesuffix(" Signaling Trainer to stop.")
    theirs = others(callbacks_of(trainer))
    who = names_of(theirs) if len(theirs) == 1 else "a callback"
    return said or f"it was told to stop by {who if theirs else 'the module'}"


@contextmanager
def naming_callbacks(trainer: Trainer) -> Iterator[None]:
    """Add a note with the callback's name to an error that is raised in one of its methods."""
    try:
        yield
    except Exception as error:
        objects = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if found := [one for one in others(callbacks_of(trainer)) if any(one is other for other in objects)]:
            error.add_note(f"raised in the callback {names_of(found)}, which you can leave out")
        raise


def choose_chunks(data: ImageData, trainer: Trainer) -> None:
    """Choose how many optimiser steps a Lightning step takes: one, if a callback acts at every step."""
    if data.batches_per_chunk is None:
        data.batches_per_chunk = ON_GPU if trainer.strategy.root_device.type == "cuda" else ON_CPU
    if acting := others(callbacks_of(trainer), PER_STEP):
        if data.batches_per_chunk > 1:
            log.warning("steps_per_call is 1 for this run, because %s acts at every step", names_of(acting))
        data.batches_per_chunk = 1


def hooks_of_steps(trainer: Trainer) -> Callable[..., None] | None:
    """Return a function that calls a hook of all callbacks; None if none has a hook that lies within a step."""

    def tell(hook: str, *arguments: Any) -> None:
        for callback in others(callbacks_of(trainer)):
            getattr(callback, hook)(trainer, trainer.lightning_module, *arguments)

    return tell if others(callbacks_of(trainer), IN_STEPS) else None
