"""Training without a run folder: a module as the configuration makes it, fitted; and the same loop written by hand."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger

from tests.helpers.commands import composing, fast
from vaelab.data.splits import SplitName
from vaelab.objectives import Objective
from vaelab.randomness import generator, seed_draws
from vaelab.runs.build import build, make_callbacks, make_trainer
from vaelab.signals import Interrupted
from vaelab.training import Checkpoints, VAEModule
from vaelab.vae import VAE


class Recorder(Logger):
    """Keeps what a logger is told: the step and the metrics."""

    name = version = "recorder"

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.told.append((step, metrics))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...


@dataclass
class Fitted:
    """A module after its training, and what was reported on the way."""

    module: VAEModule
    trainer: pl.Trainer
    recorder: Recorder = field(default_factory=Recorder)

    def curve(self, name: str) -> list[tuple[int, float]]:
        """A metric's values, at how many optimiser steps each."""
        per_epoch, size = self.module.data.batches_per_epoch, self.module.data.batch_size
        at = {epoch * self.module.data.num_train + i * size: epoch * per_epoch + i
              for epoch in range(50) for i in range(per_epoch)}  # fmt: skip
        return [(at[step], metrics[name]) for step, metrics in self.recorder.told if name in metrics]

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return self.module.state_dict()

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.module.torch_optimizer()


def configured(*overrides: str) -> Any:
    """The configuration of a short training on the digits."""
    return composing(*fast("trainer.max_epochs=2", *overrides))


def fit(
    *overrides: str, path: Path = Path("nowhere"), resume: bool = False, prepare: Callable[[VAEModule], Any] = id
) -> Fitted:
    """Train as a run would; write checkpoints below `path` and resume from them if `path` is given."""
    cfg = configured(*overrides)
    data, module = build(cfg)
    if "lr_schedule=plateau" in overrides:
        script_bounds(module)
    prepare(module)
    callbacks = [] if path == Path("nowhere") else make_callbacks(cfg, bar=False)
    fitted = Fitted(module, make_trainer(cfg, path, callbacks))
    fitted.trainer.loggers = [fitted.recorder]
    last = path / "checkpoints" / "last.ckpt" if resume else None
    fitted.trainer.fit(module, data, ckpt_path=last, weights_only=True)
    return fitted


def scripted_bound(steps: int) -> float:
    """Return a bound that rises and falls, because a trained one may do either, depending on how sums are rounded."""
    return math.sin(steps)


def script_bounds(module: VAEModule) -> None:
    """Have validation report `scripted_bound` to the schedule and to the logger."""
    publish = module.publish

    def scripted(split: SplitName, metrics: dict[str, float]) -> dict[str, float]:
        return publish(split, metrics | {"elbo": scripted_bound(module.steps)})

    module.publish = scripted


def script_validations(
    patch: pytest.MonkeyPatch, value: Callable[[int], float] = scripted_bound, name: str = "elbo"
) -> None:
    """Have every validation report `value(steps)` as the metric, also in the runs that a command makes.

    By default, and with 15 steps an epoch, the highest of the first five epochs is that of the third.
    """
    publish = VAEModule.publish

    def scripted(self: VAEModule, split: SplitName, metrics: dict[str, float]) -> dict[str, float]:
        return publish(self, split, metrics | ({name: value(steps_of(self))} if split == "val" else {}))

    patch.setattr(VAEModule, "publish", scripted)


def steps_of(module: VAEModule) -> int:
    """After how many steps the weights were what is evaluated."""
    if module.weights == "last":
        return module.steps
    best = Path(module.trainer.default_root_dir) / "checkpoints" / "best.ckpt"
    return torch.load(best, weights_only=True)["counts"]["steps"]


def by_hand(
    overrides: tuple[str, ...] = (),
    epochs: int = 2,
    after_backward: Callable[[list[torch.Tensor]], Any] = id,
    schedule: Callable[[torch.optim.Optimizer], Any] = id,
    after_step: Callable[[Any], Any] = id,
    after_epoch: Callable[[Any], Any] = id,
    leave_out: Callable[[torch.Tensor], bool] = lambda indices: False,
    objective: Objective | None = None,
) -> VAE:
    """The training of `fit`, as a loop that anybody would write."""
    data, module = build(configured(*overrides))
    vae = module.vae
    optimizer = module.optimizer(vae.parameters())
    scheduler = schedule(optimizer)
    for epoch in range(epochs):
        order = torch.randperm(data.num_train, generator=generator("shuffle", module.seed, epoch))
        for step, indices in enumerate(order.split(data.batch_size)):
            seed_draws("cpu", "train", module.seed, epoch, step, 0)
            if not leave_out(indices):
                taken = torch.tensor(epoch * data.batches_per_epoch + step)
                terms = (objective or module.objective)(vae, data.draw("train", indices), taken)
                optimizer.zero_grad()
                (terms.loss.sum() / len(indices)).backward()
                after_backward(list(vae.parameters()))
                optimizer.step()
            after_step(scheduler)
        after_epoch(scheduler)
    return vae


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are the same bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def assert_same_state(one: Fitted, other: Fitted) -> None:
    """Parameters, buffers, the optimiser's state, the schedule's and the counts, bit by bit."""
    for name, value in one.state.items():
        assert torch.equal(value, other.state[name]), name
    assert plain(one.optimizer.state_dict()) == plain(other.optimizer.state_dict())
    for ours, theirs in zip(schedules(one), schedules(other), strict=True):
        assert plain(ours.state_dict()) == plain(theirs.state_dict())
    for name in ("steps", "samples_seen"):
        assert getattr(one.module, name) == getattr(other.module, name)


def schedules(fitted: Fitted) -> list[Any]:
    return [config.scheduler for config in fitted.trainer.lr_scheduler_configs]


def plain(value: Any) -> Any:
    """Nested state with its tensors as lists, for `==`."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def interrupting(patch: pytest.MonkeyPatch, epoch: int = 0) -> None:
    """Have a signal come right after an epoch's checkpoint."""
    save = Checkpoints.on_train_epoch_end

    def saved(self: Checkpoints, trainer: Any, *args: Any) -> None:
        save(self, trainer, *args)
        if trainer.current_epoch == epoch:
            raise Interrupted(15)

    patch.setattr(Checkpoints, "on_train_epoch_end", saved)
