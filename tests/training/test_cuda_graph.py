"""The captured step: with graphs that record on a CPU as CUDA's do, and with CUDA's own where there is a GPU."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.objectives import WarmingUp
from tests.helpers.training import Fitted, configured, fit, same
from vaelab.objectives import ELBO, Terms
from vaelab.randomness import generator
from vaelab.runs.build import build
from vaelab.training.cuda_graph import AnyStep, CapturedStep, CudaGraphs, agree, captured, make_capturable
from vaelab.training.stacked_step import StackedStep
from vaelab.training.step import Step
from vaelab.vae import VAE

ADAM = partial(torch.optim.Adam, lr=2**-7)  # a rate that float32 holds exactly
STEPS_PER_EPOCH = 15


class FakeGraphs(CudaGraphs):
    """Record on a CPU: a capture changes nothing, and a replay uses the learning rates that were captured."""

    def __init__(self, step: AnyStep) -> None:
        self.step = step
        self.warmed = self.captures = self.replays = 0
        self.error = 0.0  # what a replay adds to a parameter

    def warm_up(self, function: Callable[[], None]) -> None:
        self.warmed += 1
        function()

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        groups = self.step.optimizer.param_groups
        rates = [group["lr"] for group in groups]  # tensors are read anew, floats are not
        before, rng = [tensor.detach().clone() for tensor in self.step.state()], torch.get_rng_state()

        def run() -> None:
            now = [group["lr"] for group in groups]
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = float(rate)
            function()
            for group, rate in zip(groups, now, strict=True):
                group["lr"] = rate

        def replayed() -> None:
            self.replays += 1
            run()
            next(self.step.modules.parameters()).data.add_(self.error)

        run()
        with torch.no_grad():
            for tensor, former in zip(self.step.state(), before, strict=True):
                tensor.copy_(former)
        torch.set_rng_state(rng)
        return replayed


def new_step(optimizer: Any = ADAM, objective: Any = None, device: str = "cpu", seed: int = 0, **kwargs: Any) -> Step:
    """A step of the small model on the digits."""
    data, module = build(configured(f"seed={seed}"))
    data.to(torch.device(device))
    vae = module.vae.to(device)
    return Step(vae, objective or ELBO(), data, optimizer(vae.parameters()), **kwargs)


def work(step: Step, steps: int) -> Iterator[tuple[Tensor, int, Any]]:
    """Minibatches of 100, and one of 38 at the end of each epoch of 15."""
    for i in range(steps):
        epoch, position = divmod(i, STEPS_PER_EPOCH)
        order = torch.randperm(step.data.num_train, generator=generator("shuffle", 0, epoch))
        indices = order.split(100)[position].to(step.data.device)
        yield indices, len(indices), ("train", 0, epoch, position, 0)


def take(step: Any, steps: int, between: Callable[[int], Any] = id) -> dict[str, Tensor]:
    """Take so many steps; return the model's state."""
    bare = step.step if isinstance(step, CapturedStep) else step
    for i, minibatch in enumerate(work(bare, steps)):
        step(*minibatch)
        between(i)
    return {name: value.clone() for name, value in bare.vae.state_dict().items()}


def capturing(step: AnyStep) -> tuple[CapturedStep, FakeGraphs]:
    graphs = FakeGraphs(step)
    return CapturedStep(step, graphs), graphs


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.slow
def test_captured_steps_are_the_plain_steps(caplog: pytest.LogCaptureFixture) -> None:
    (step, graphs), plain = capturing(new_step(objective=WarmingUp(40))), new_step(objective=WarmingUp(40))
    assert same(take(step, 60), take(plain, 60))
    assert torch.equal(step.step.take_sums(), plain.take_sums())
    assert (graphs.warmed, graphs.captures) == (4, 2)  # for each size of minibatch
    assert graphs.replays == 56
    assert warnings(caplog) == []


@pytest.mark.slow
@pytest.mark.parametrize("clip", [None, partial(torch.nn.utils.clip_grad_norm_, max_norm=1.0)])
def test_a_learning_rate_may_move_between_steps(clip: Any) -> None:
    states = []
    for wrap in (lambda step: step, lambda step: capturing(step)[0]):
        step = new_step(gradient_clip=clip)
        schedule = torch.optim.lr_scheduler.StepLR(step.optimizer, step_size=10, gamma=0.5)
        states.append(take(wrap(step), 60, lambda _, schedule=schedule: schedule.step()))
        assert [group["lr"] for group in step.optimizer.param_groups] == [2**-13]  # a number of the host
    assert same(*states)


class Counted(ELBO):
    """An objective that breaks the contract: it counts its calls in Python, and weighs the KL by them."""

    calls = 0

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        self.calls += 1
        terms = super().forward(vae, x, step)
        return Terms(terms.loss + self.calls * terms.metrics["kl"], terms.metrics)


def test_a_count_in_python_is_found_before_the_capture(caplog: pytest.LogCaptureFixture) -> None:
    step, graphs = capturing(new_step(objective=Counted()))
    assert same(take(step, 30), take(new_step(objective=Counted()), 30))
    assert graphs.captures == 0
    assert len(warnings(caplog)) == 1


def test_a_replay_with_another_result_is_the_last(caplog: pytest.LogCaptureFixture) -> None:
    step, graphs = capturing(new_step())
    graphs.error = 1.0
    assert same(take(step, 30), take(new_step(), 30))
    assert step.given_up
    assert graphs.replays == 1
    assert len(warnings(caplog)) == 1


def test_numbers_of_the_optimiser_may_change(caplog: pytest.LogCaptureFixture) -> None:
    def between(optimizer: torch.optim.Optimizer, i: int) -> None:
        optimizer.param_groups[0]["betas"] = (0.9 if i < 20 else 0.5, 0.999)

    step, plain = capturing(new_step())[0], new_step()
    found = take(step, 40, partial(between, step.step.optimizer))
    assert same(found, take(plain, 40, partial(between, plain.optimizer)))
    assert len(warnings(caplog)) == 1


def test_a_step_that_cannot_be_captured_is_taken_plainly(caplog: pytest.LogCaptureFixture) -> None:
    def refused(function: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nand much more")

    step, graphs = capturing(new_step())
    graphs.capture = refused
    assert same(take(step, 40), take(new_step(), 40))
    (line,) = warnings(caplog)
    assert "operation not permitted when stream is capturing" in line
    assert "much more" not in line


@pytest.mark.parametrize(
    ("optimizer", "world_size", "words"),
    [(partial(torch.optim.Adagrad, lr=0.01), 1, "Adagrad"), (ADAM, 2, "several processes")],
)
def test_a_warning_says_why_nothing_is_captured(
    optimizer: Any, world_size: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    step = new_step(optimizer, world_size=world_size)
    assert captured(step) is step
    assert warnings(caplog) == []  # on a CPU
    step.data.device = torch.device("cuda")
    assert captured(step) is step
    (line,) = warnings(caplog)
    assert "not captured" in line
    assert words in line


@pytest.mark.slow
def test_a_checkpoint_of_a_captured_run_loads_without_a_gpu(tmp_path: Path) -> None:
    run = fit(path=tmp_path)
    make_capturable(run.optimizer)
    run.trainer.save_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert run.optimizer.param_groups[0]["capturable"] is True
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
    assert saved["param_groups"][0]["capturable"] is False
    again = fit("trainer.max_epochs=3", path=tmp_path, resume=True)
    assert same(again.state, fit("trainer.max_epochs=3").state)


class Counting(ELBO):
    """An objective that counts its calls in a buffer, which a graph can do, and has a mask."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mask", torch.ones(3, dtype=torch.bool))

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        self.calls += 1
        return super().forward(vae, x, step)


def test_an_audit_counts_as_one_step() -> None:
    counting = Counting()
    step, _ = capturing(new_step(objective=counting))
    take(step, 45)
    assert counting.calls == 45
    assert not step.given_up


def test_steps_that_diverge_alike_agree() -> None:
    nan, one = torch.tensor([torch.nan]), torch.ones(1)
    assert agree([nan, one], [nan, one])
    assert not agree([nan], [one])


# many models


def stacked_step(device: str = "cpu", **kwargs: Any) -> StackedStep:
    """The step of three models of different weights, the last with a learning rate of its own."""
    steps = [new_step(device=device, seed=seed, **kwargs) for seed in range(3)]
    steps[2].optimizer.param_groups[0]["lr"] = 2**-8
    return StackedStep(steps)


def take_stacked(step: Any, steps: int) -> list[dict[str, Tensor]]:
    """Take so many steps of three models, each on minibatches and with noise of its own; return their states."""
    bare: StackedStep = step.step if isinstance(step, CapturedStep) else step
    for indices, size, key in work(bare.steps[0], steps):
        minibatches = torch.stack([indices, indices.flip(0), (indices + 1) % bare.data.num_train])
        step(minibatches, size, tuple(("train", seed, *key[2:]) for seed in range(3)))
    return [{name: value.clone() for name, value in one.vae.state_dict().items()} for one in bare.steps]


@pytest.mark.slow
def test_stacked_steps_are_captured_as_well(caplog: pytest.LogCaptureFixture) -> None:
    clip = partial(torch.nn.utils.clip_grad_norm_, max_norm=1.0)
    step, graphs = capturing(stacked_step(gradient_clip=clip))
    plain = take_stacked(stacked_step(gradient_clip=clip), 60)
    assert all(same(*pair) for pair in zip(take_stacked(step, 60), plain, strict=True))
    assert (graphs.captures, graphs.replays) == (2, 56)
    assert warnings(caplog) == []


# on a GPU


GPU = ("accelerator=gpu", "trainer.max_epochs=14")


def assert_close(one: Fitted, other: Fitted) -> None:
    for name, value in one.state.items():
        torch.testing.assert_close(value, other.state[name], rtol=1e-3, atol=1e-4, msg=name)


class Curious(ELBO):
    """An objective that looks at a number on the way, which no graph can hold."""

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        terms = super().forward(vae, x, step)
        assert terms.loss.mean().item() != 0
        return terms


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
class TestOnGpu:
    def test_what_cannot_be_captured_trains_on_uncaptured(self, caplog: pytest.LogCaptureFixture) -> None:
        bare = new_step(objective=Curious(), device="cuda")
        states = [take(step, 40) for step in (captured(bare), new_step(objective=Curious(), device="cuda"))]
        (warning,) = warnings(caplog)
        assert "cannot be captured as a CUDA graph" in warning
        for name, value in states[0].items():
            torch.testing.assert_close(value, states[1][name], rtol=1e-3, atol=1e-4)

    def test_stacked_steps_are_replayed_as_they_would_be_taken(self, caplog: pytest.LogCaptureFixture) -> None:
        bare = stacked_step("cuda")
        step = captured(bare)
        for replayed, plain in zip(take_stacked(step, 200), take_stacked(stacked_step("cuda"), 200), strict=True):
            for name, value in replayed.items():
                torch.testing.assert_close(value, plain[name], rtol=1e-3, atol=1e-4)
        assert isinstance(step, CapturedStep)
        assert warnings(caplog) == []

    @pytest.mark.parametrize(
        "overrides", [(), ("lr_schedule=cosine",), ("gradient_clip=norm", "decoder=gaussian"), ("optimizer=adam_from",)]
    )
    def test_200_captured_steps_train_as_200_others(self, overrides: tuple[str, ...]) -> None:
        replayed, plain = fit(*GPU, *overrides), fit(*GPU, *overrides, "cuda_graphs=false")
        assert isinstance(replayed.module.step, CapturedStep)
        assert not replayed.module.step.given_up
        assert isinstance(plain.module.step, Step)
        assert_close(replayed, plain)

    def test_each_replay_draws_noise_of_its_own_key(self) -> None:
        bare = new_step(partial(torch.optim.Adam, lr=0.0), device="cuda")
        step = captured(bare)
        indices, found = torch.arange(100, device="cuda"), []
        for key in (0, 1, 2, 3, 4, 5, 4):
            step(indices, 100, ("train", 0, 0, key, 0))
            found.append(bare.take_sums()[0].item())
        assert found[4] != found[5]
        assert found[4] == found[6]
        plain = new_step(partial(torch.optim.Adam, lr=0.0), device="cuda")
        plain(indices, 100, ("train", 0, 0, 5, 0))
        assert plain.take_sums()[0].item() == pytest.approx(found[5], rel=1e-5)

    def test_a_captured_run_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        whole = fit(*GPU, "lr_schedule=cosine", path=tmp_path / "whole")
        fit(*GPU, "lr_schedule=cosine", "trainer.max_steps=100", path=tmp_path / "parts")
        assert_close(fit(*GPU, "lr_schedule=cosine", path=tmp_path / "parts", resume=True), whole)
