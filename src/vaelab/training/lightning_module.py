"""The LightningModule that trains a VAE: it adds an objective and an optimiser to `EvaluationModule`."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vaelab.data.batches import Chunk, TrainingIndices
from vaelab.errors import DivergedError
from vaelab.estimators import Estimator, Several
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.objectives import Objective
from vaelab.training.cuda_graph import captured, uncapturable
from vaelab.training.divergence import Guard, OnNan
from vaelab.training.fit_loop import go_on_inside_epoch
from vaelab.training.other_callbacks import choose_chunks, hooks_of_steps, why_stopped
from vaelab.training.schedules import Interval, Schedule, advance
from vaelab.training.step import Clip, Minibatch, Step, Together, add_up
from vaelab.vae import VAE, Conditional

log = logging.getLogger(__name__)


class VAEModule(EvaluationModule):
    """Trains a `VAE` on an `ImageData`, which must be the trainer's `datamodule`.

    One Lightning step is one `Chunk` of minibatches, and each minibatch is one optimiser step (`Step`). Two counts are
    saved in checkpoints: `steps`, the optimiser steps, which `trainer.global_step` follows, and `samples_seen`, the
    training examples over all processes, which is the x-axis of every curve, as in figure 2 of Kingma & Welling (2014).

    It logs the metrics of `EvaluationModule`, and after each Lightning step `train/loss` and the objective's metrics.

    Args:
        vae: the model.
        objective: the objective to minimise.
        optimizer: makes the optimiser from the parameters.
        estimator: `estimator(vae, x) -> Estimate`, or `Several` of them, for the test.
        weight_prior: `weight_prior(vae)` is -log p(theta) in nats; divided by N_train, it is added to the loss.
        gradient_clip: `gradient_clip(parameters)` clips their gradients.
        lr_schedule: the schedule of the learning rate.
        seed: the seed of the noise in training and of z in evaluation.
        max_steps: stop after this many optimiser steps; -1 for no limit.
        compiled: take each step by one function, compiled with `torch.compile`; see `CompiledStep`.
        cuda_graphs: capture the step as a CUDA graph on a GPU, if the optimiser allows it.
        on_nan: what to do when a number is infinite or NaN; see `vaelab.training.divergence`.

    Raises:
        DivergedError: in training, if a number is infinite or NaN and training cannot go on.
        Interrupted: in training, after a signal.
    """

    def __init__(
        self,
        vae: VAE,
        objective: Objective,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        estimator: Estimator | Several,
        weight_prior: nn.Module | None = None,
        gradient_clip: Clip | None = None,
        lr_schedule: Schedule | None = None,
        seed: int = 0,
        max_steps: int = -1,
        compiled: bool = False,
        cuda_graphs: bool = True,
        on_nan: OnNan = "stop",
    ) -> None:
        super().__init__(vae, objective, estimator, seed)
        self.automatic_optimization = False  # one Lightning step takes many optimiser steps
        self.optimizer = optimizer
        self.weight_prior = weight_prior
        self.gradient_clip = gradient_clip
        self.lr_schedule = lr_schedule
        self.max_steps = max_steps
        self.compiled = compiled
        self.cuda_graphs = cuda_graphs
        self.guard = Guard(on_nan)
        self.stopping = False  # whether a process got a signal; equal in all processes
        self.latest = float("nan")  # the mean of the objective's first metric over the last chunk
        self.ended_by: str | None = None  # why a callback ended the training
        self.together: Together | None = None  # takes the steps of stacked runs

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":
            choose_chunks(self.data, self.trainer)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.vae.parameters())
        return optimizer if self.lr_schedule is None else ([optimizer], [self.lr_schedule.scheduler(optimizer)])

    def on_train_start(self) -> None:
        self.stop.install()  # Lightning has just installed its own handler of SIGTERM
        cast(TrainingIndices, self.trainer.train_dataloader).steps_done = self.steps  # a run may resume inside an epoch
        self.trainer.fit_loop.epoch_loop.max_steps = self.max_steps
        self.trainer.should_stop |= self.ended_by is not None
        if isinstance(self.trainer.strategy.model, DistributedDataParallel):
            self.trainer.strategy.model.require_backward_grad_sync = False  # our step sums the gradients itself
        for part in self.vae.modules():
            if isinstance(part, Conditional):
                part.reduced = torch.bfloat16 if self.trainer.precision == "bf16-mixed" else None
        self.objective.num_train = self.data.num_train
        tell = hooks_of_steps(self.trainer)
        if self.compiled and tell is not None:
            log.warning("the training step is not compiled: a callback acts within it")
        self.uncaptured_step = Step(
            *(self.vae, self.objective, self.data, self.torch_optimizer()),
            *(self.weight_prior, self.gradient_clip, self.trainer.world_size),
            compiled=self.compiled and tell is None,
            tell=tell,
        )
        self.capture_step()
        scheduler = None if self.lr_schedule is None else self.lr_schedulers()
        self.guard.start(self.uncaptured_step, partial(self.advance_schedule, "step"), scheduler)

    def capture_step(self) -> None:
        """Set `step` to the optimiser step, captured as a CUDA graph if possible."""
        capture = self.together is None and self.cuda_graphs and self.uncaptured_step.tell is None
        self.step: Callable[..., None] = captured(self.uncaptured_step) if capture else self.uncaptured_step

    def on_train_epoch_start(self) -> None:
        self.stopping |= self.stop.notice() and self.trainer.world_size == 1  # the previous epoch ended in a checkpoint
        if self.stopping:
            self.stop.check()
        cast(TrainingIndices, self.trainer.train_dataloader).steps_done = self.steps
        if self.steps % self.data.batches_per_epoch == 0:
            self.guard.begin_epoch()

    def on_train_batch_start(self, batch: Chunk, batch_idx: int) -> None:
        if self.stopping:
            self.stop.check()  # callbacks have written a checkpoint by now

    def training_step(self, chunk: Chunk, batch_idx: int) -> None:
        left = len(chunk.batches) if self.max_steps < 0 else self.max_steps - self.steps
        key = ("train", self.seed, chunk.epoch)
        minibatches = [
            Minibatch(indices, size, (*key, chunk.first_step + i, self.trainer.global_rank))
            for i, (indices, size) in enumerate(zip(chunk.batches[:left], chunk.sizes[:left], strict=True))
        ]
        self.guard.before()
        with torch.autocast(self.device.type, enabled=False):  # each network enters its own
            sums, examples = self.take_steps(minibatches)
        if self.steps % self.data.batches_per_epoch == 0:
            self.advance_schedule("epoch")
        # Lightning validates after chunk i if i + 1 is a multiple of val_check_batch
        validates = self.validation_is_due() or self.steps == self.max_steps
        self.trainer.val_check_batch = 1 if validates else batch_idx + 2
        if examples > 0:
            self.report_training(sums / examples)

    def take_steps(self, minibatches: Sequence[Minibatch]) -> tuple[Tensor, int]:
        """Take a step on each minibatch, and undo those that diverge.

        Return the sums of the terms over the examples of all steps that were not undone, and the number of examples.

        Raises:
            DivergedError: training must stop at one of the steps.
        """
        taken = minibatches[: self.take_unchecked(minibatches)]
        sums = self.sums_over_processes()
        if self.guard.after(taken, sums):
            examples = sum(minibatch.size for minibatch in taken)
        else:
            try:
                examples = self.guard.repair(taken)
            except DivergedError as error:
                self.count(error.details["step"] - 1)
                raise
            self.capture_step()  # capture again, because the optimiser has new tensors
            sums = self.sums_over_processes()
        self.count(self.steps + len(taken))
        return sums, examples

    def take_unchecked(self, minibatches: Sequence[Minibatch]) -> int:
        """For each minibatch, take an optimiser step and advance the schedule; return the number of optimiser steps.

        A signal stops a single process early. Several processes take all steps, so that they stop after the same step.
        """
        if self.together is not None:
            return self.together(self, minibatches)
        for taken, minibatch in enumerate(minibatches, start=1):
            self.step(*minibatch)
            self.advance_schedule("step")
            if self.stop.notice() and self.trainer.world_size == 1:
                return taken
        return len(minibatches)

    def count(self, steps: int) -> None:
        """Set `steps`, `samples_seen` and Lightning's count to their values after `steps` optimiser steps."""
        self.steps = steps
        epoch, done = divmod(steps, self.data.batches_per_epoch)
        self.samples_seen = epoch * self.data.num_train + done * self.data.batch_size
        total = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
        total.ready = total.completed = steps

    def sums_over_processes(self) -> Tensor:
        """Return the sums of the terms over all processes. Set `stopping` in all of them if one got a signal."""
        sums, signalled = self.uncaptured_step.take_sums(), torch.tensor([float(self.stop.asked is not None)])
        if self.trainer.world_size > 1:
            signalled = signalled.to(sums)
            add_up([sums, signalled])
        self.stopping = bool(signalled)
        if self.stopping:
            self.stop.follow()
        return sums

    def report_training(self, means: Tensor) -> None:
        """Log the means of the terms over the examples of the last chunk, and the next learning rate."""
        names = self.uncaptured_step.names
        values = dict(zip(names, means, strict=True)) | self.vae.decoder.head.monitors()
        values |= {f"encoder_{name}": value for name, value in self.vae.encoder.head.monitors().items()}
        if self.lr_schedule is not None:
            values["learning_rate"] = self.torch_optimizer().param_groups[0]["lr"]
        self.latest = self.report({f"train/{name}": value for name, value in values.items()})[f"train/{names[0]}"]

    def validation_is_due(self) -> bool:
        """Return whether a regular validation is due. The final validation, at `max_steps`, may be an extra one."""
        return self.steps % self.data.batches_per_epoch % (self.data.pause_every or self.data.batches_per_epoch) == 0

    def advance_schedule(self, event: Interval, *value: float) -> bool:
        """Advance the schedule if its interval is this event; return whether it was advanced."""
        if self.lr_schedule is None or self.lr_schedule.interval != event:
            return False
        advance(self.lr_schedulers(), *value)
        if event != "step":
            self.guard.forget()
        return True

    def torch_optimizer(self) -> torch.optim.Optimizer:
        """Return PyTorch's optimiser, without Lightning's wrapper."""
        return cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False))

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking and self.validation_is_due():
            self.advance_schedule("validation", self.found["val/elbo"])

    def on_train_end(self) -> None:
        self.ended_by = self.ended_by or why_stopped(self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.on_train_end()
        checkpoint["ended_by"] = self.ended_by
        checkpoint["counts"] = {"steps": self.steps, "samples_seen": self.samples_seen}
        checkpoint["guard"] = self.guard.state_dict()
        for state in checkpoint["optimizer_states"]:
            uncapturable(state["param_groups"])  # the checkpoint must also load on a CPU

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.ended_by = checkpoint.get("ended_by")
        self.steps, self.samples_seen = (checkpoint["counts"][name] for name in ("steps", "samples_seen"))
        if "guard" in checkpoint:
            self.guard.load_state_dict(checkpoint["guard"])
        if self._trainer is not None and self.trainer.state.fn == "fit":
            go_on_inside_epoch(checkpoint["loops"]["fit_loop"], self.steps, self.data.train_dataloader())
