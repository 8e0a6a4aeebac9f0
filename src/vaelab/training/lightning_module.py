"""The LightningModule that trains a VAE: an objective and an optimiser on top of what evaluation needs."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vaelab.data.batches import Chunk, ShuffledIndices
from vaelab.errors import DivergedError
from vaelab.estimators import Estimator, Several
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.objectives import Objective
from vaelab.training.cuda_graph import captured, portable
from vaelab.training.divergence import Guard, OnNan
from vaelab.training.lightning_loops import count_steps, go_on_inside_epoch
from vaelab.training.schedules import Interval, Schedule, advance
from vaelab.training.step import Clip, Minibatch, Step, Together, add_up
from vaelab.vae import VAE


class VAEModule(EvaluationModule):
    """Trains a `VAE` on an `ImageData`, which the trainer's `datamodule` must be.

    One Lightning step is one `Chunk` of minibatches, each an optimiser step of its own (`Step`). The
    counts that matter are `steps` (optimiser steps; `trainer.global_step` follows it) and `samples_seen` (training
    examples, over all processes): both are saved, and `samples_seen` is the x-axis of every curve, as in the paper.

    Its metrics are those of `EvaluationModule`, and the same of each Lightning step, with `train/loss`.

    Args:
        vae: the model.
        objective: what is minimised.
        optimizer: makes the optimiser from the parameters.
        estimator: `estimator(vae, x) -> Estimate`, or `Several` of them, for the test.
        weight_prior: `weight_prior(vae)` is -log p(theta) in nats; over N_train it joins the loss.
        gradient_clip: clips the gradients of the parameters that it is given.
        lr_schedule: moves the learning rate.
        seed: of the noise in training and of z in evaluation.
        max_steps: stop after so many optimiser steps; -1 for no limit.
        compile_objective: have `torch.compile` make one function of model and objective, for training.
        cuda_graphs: capture the step on a GPU, if its optimiser allows it.
        on_nan: what follows a step after which something is infinite or not a number; see `vaelab.training.divergence`.

    Raises:
        DivergedError: in training, at such a step.
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
        compile_objective: bool = False,
        cuda_graphs: bool = True,
        on_nan: OnNan = "stop",
    ) -> None:
        super().__init__(vae, objective, estimator, seed)
        self.automatic_optimization = False  # a Lightning step does many optimiser steps
        self.optimizer = optimizer
        self.weight_prior = weight_prior
        self.gradient_clip = gradient_clip
        self.lr_schedule = lr_schedule
        self.max_steps = max_steps
        self.compile_objective = compile_objective
        self.cuda_graphs = cuda_graphs
        self.guard = Guard(on_nan)
        self.stopping = False  # in all processes
        self.latest = float("nan")  # first metric of the objective, over the chunk before
        self.together: Together | None = None  # takes the steps of many

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.vae.parameters())
        return optimizer if self.lr_schedule is None else ([optimizer], [self.lr_schedule.scheduler(optimizer)])

    def on_train_start(self) -> None:
        self.stop.install()  # Lightning has just taken SIGTERM
        cast(ShuffledIndices, self.trainer.train_dataloader).steps_done = self.steps  # it may be inside an epoch
        self.trainer.should_stop |= self.steps == self.max_steps  # an interruption may have come after the last one
        if isinstance(self.trainer.strategy.model, DistributedDataParallel):
            self.trainer.strategy.model.require_backward_grad_sync = False  # our step adds the gradients up itself
        self.own_step = self.make_step()
        self.capture_step()
        scheduler = None if self.lr_schedule is None else self.lr_schedulers()
        self.guard.start(self.own_step, partial(self.advance_schedule, "step"), scheduler)

    def capture_step(self) -> None:
        """Makes `step` the optimiser step, captured where that is possible."""
        alone = self.together is None and self.cuda_graphs
        self.step = captured(self.own_step) if alone else self.own_step

    def make_step(self) -> Step:
        """The optimiser step, as it stands."""
        return Step(
            *(self.vae, self.objective, self.data, self.torch_optimizer()),
            *(self.weight_prior, self.gradient_clip, self.trainer.world_size, self.compile_objective),
        )

    def on_train_epoch_start(self) -> None:
        self.stopping |= self.stop.notice() and self.trainer.world_size == 1  # a checkpoint was just written
        self.stop_if_told()
        cast(ShuffledIndices, self.trainer.train_dataloader).steps_done = self.steps
        if self.steps % self.data.batches_per_epoch == 0:
            self.guard.begin_epoch()

    def on_train_batch_start(self, batch: Chunk, batch_idx: int) -> None:
        self.stop_if_told()

    def stop_if_told(self) -> None:
        """Raises `Interrupted` after a signal; by now there is a checkpoint, of callbacks that write one."""
        if self.stopping:
            self.stop.check()

    def training_step(self, chunk: Chunk, batch_idx: int) -> None:
        left = len(chunk.batches) if self.max_steps < 0 else self.max_steps - self.steps
        key = ("train", self.seed, chunk.epoch)
        minibatches = [
            Minibatch(indices, size, (*key, chunk.first_step + i, self.trainer.global_rank))
            for i, (indices, size) in enumerate(zip(chunk.batches[:left], chunk.sizes[:left], strict=True))
        ]
        self.guard.before(minibatches)
        taken = self.take_steps(minibatches)
        sums, examples = self.taken_sums(minibatches, taken)
        self.count(minibatches[:taken])
        if self.steps % self.data.batches_per_epoch == 0:
            self.advance_schedule("epoch")
        self.trainer.should_stop |= self.steps == self.max_steps
        # Lightning's count is in chunks
        self.trainer.val_check_batch = 1 if self.validation_is_due() else batch_idx + 2
        if examples > 0:
            self.report_training(sums / examples)

    def count(self, minibatches: Sequence[Minibatch]) -> None:
        """Counts the steps that were taken on these."""
        self.steps += len(minibatches)
        self.samples_seen += sum(minibatch.size for minibatch in minibatches)
        count_steps(self.trainer, len(minibatches))

    def take_steps(self, minibatches: Sequence[Minibatch]) -> int:
        """Takes an optimiser step on each minibatch, and those of the schedule between them; returns how many.

        A signal makes it fewer; not where several processes have to stop after the same one.
        """
        if self.together is not None:
            return self.together.take(self, minibatches)
        for taken, minibatch in enumerate(minibatches, start=1):
            self.step(*minibatch)
            self.advance_schedule("step")
            if self.stop.notice() and self.trainer.world_size == 1:
                return taken
        return len(minibatches)

    def taken_sums(self, minibatches: Sequence[Minibatch], taken: int) -> tuple[Tensor, int]:
        """Sums of the terms in the steps just taken, over so many examples; steps that broke are undone.

        Settles also, for all processes, whether to stop.

        Raises:
            DivergedError: training has to stop at one of the steps.
        """
        sums = self.sums_of_all()
        if not self.guard.after(taken, len(minibatches), sums):
            try:
                examples = self.guard.mend(taken)
            except DivergedError as error:
                self.count(minibatches[: error.taken])
                raise
            self.capture_step()  # anew: the optimiser's tensors are others
            return self.sums_of_all(), examples
        return sums, sum(minibatch.size for minibatch in minibatches[:taken])

    def sums_of_all(self) -> Tensor:
        sums, told = self.own_step.take_sums(), torch.tensor([float(self.stop.asked is not None)])
        if self.trainer.world_size > 1:
            told = told.to(sums)
            add_up([sums, told])
        if told:
            self.stop.follow()
        self.stopping = bool(told)
        return sums

    def report_training(self, means: Tensor) -> None:
        """Reports the means of the terms over the examples of the last chunk."""
        names = [*(metric.name for metric in self.objective.metrics), "loss"]
        terms = {f"train/{name}": value for name, value in zip(names, means, strict=True)}
        monitors = {f"train/{name}": value for name, value in self.vae.decoder.head.monitors().items()}
        self.latest = self.report(terms | monitors | self.learning_rate())[f"train/{names[0]}"]

    def validation_is_due(self) -> bool:
        """Whether it is time to validate; the one that `max_steps` ends with may come at another."""
        return self.steps % self.data.batches_per_epoch % (self.data.pause_every or self.data.batches_per_epoch) == 0

    def advance_schedule(self, event: Interval, *value: float) -> None:
        """Has the schedule take its step, if this is what it waits for."""
        if self.lr_schedule is not None and self.lr_schedule.interval == event:
            advance(self.lr_schedulers(), *value)
            if event != "step":
                self.guard.forget()

    def learning_rate(self) -> dict[str, Tensor]:
        """The next step's, of the first group of parameters, where a schedule moves it."""
        if self.lr_schedule is None:
            return {}
        rate = self.torch_optimizer().param_groups[0]["lr"]
        return {"train/learning_rate": torch.as_tensor(rate, dtype=torch.float64)}

    def torch_optimizer(self) -> torch.optim.Optimizer:
        """PyTorch's own, without what Lightning wraps around it."""
        return cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False))

    def on_validation_epoch_end(self) -> None:
        metrics = self.publish_validation()
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking and self.validation_is_due():
            self.advance_schedule("validation", metrics["val/elbo"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["counts"] = {"steps": self.steps, "samples_seen": self.samples_seen}
        checkpoint["guard"] = self.guard.state_dict()
        checkpoint["state_dict"] = {name: value.clone() for name, value in checkpoint["state_dict"].items()}  # of views
        for state in checkpoint["optimizer_states"]:
            portable(state)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps, self.samples_seen = (checkpoint["counts"][name] for name in ("steps", "samples_seen"))
        if "guard" in checkpoint:
            self.guard.load_state_dict(checkpoint["guard"])
        if self._trainer is not None and self.trainer.state.fn == "fit":
            go_on_inside_epoch(checkpoint["loops"]["fit_loop"], self.steps, self.data.train_dataloader())
