"""The captured step: with graphs that record on a CPU as CUDA's do, and with CUDA's own where there is a GPU."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
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
    """Records on a CPU: Python runs once, and nothing else happens; a replay finds Python's numbers as they were.

    Args:
        step: whose state a recording leaves alone.
        host: objects whose Python attributes the function reads.
    """

    def __init__(self, step: AnyStep, host: Sequence[Any] = ()) -> None:
        self.step = step
        self.host = host
        self.warmed = self.captures = self.replays = 0

    def warm_up(self, function: Callable[[], None]) -> None:
        self.warmed += 1
        function()

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        rates = [group["lr"] for group in self.step.optimizer.param_groups]  # tensors are read anew, floats are not
        frozen = [dict(vars(thing)) for thing in self.host]
        before, rng = [tensor.detach().clone() for tensor in self.step.state()], torch.get_rng_state()
        self.run(function, rates)
        with torch.no_grad():
            for tensor, former in zip(self.step.state(), before, strict=True):
                tensor.copy_(former)
        torch.set_rng_state(rng)

        def replayed() -> None:
            self.replays += 1
            now = [dict(vars(thing)) for thing in self.host]
            for thing, former in zip(self.host, frozen, strict=True):
                vars(thing).update(former)
            self.run(function, rates)
            for thing, attributes in zip(self.host, now, strict=True):
                vars(thing).update(attributes)

        return replayed

    def run(self, function: Callable[[], None], rates: list[Any]) -> None:
        groups = self.step.optimizer.param_groups
        now = [group["lr"] for group in groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = float(rate)
        function()
        for group, rate in zip(groups, now, strict=True):
            group["lr"] = rate


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
    """Takes so many steps; returns the model's state."""
    bare = step.step if isinstance(step, CapturedStep) else step
    for i, minibatch in enumerate(work(bare, steps)):
        step(*minibatch)
        between(i)
    return {name: value.clone() for name, value in bare.vae.state_dict().items()}


def capturing(step: Step, *host: Any) -> tuple[CapturedStep, FakeGraphs]:
    graphs = FakeGraphs(step, host)
    return CapturedStep(step, graphs), graphs


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_each_size_is_warmed_up_twice_captured_once_and_then_replayed() -> None:
    step, graphs = capturing(new_step())
    take(step, 2)
    assert (graphs.warmed, graphs.captures, graphs.replays) == (2, 0, 0)
    take(step, 14)
    assert (graphs.warmed, graphs.captures) == (2, 1)
    assert graphs.replays == 14
    take(step, 4 * STEPS_PER_EPOCH)
    assert (graphs.warmed, graphs.captures) == (4, 2)
    assert graphs.replays == 14 + 4 * STEPS_PER_EPOCH - 2


def test_200_captured_steps_are_200_steps(caplog: pytest.LogCaptureFixture) -> None:
    step, graphs = capturing(new_step())
    plain = new_step()
    assert same(take(step, 200), take(plain, 200))
    assert torch.equal(step.step.take_sums(), plain.take_sums())
    assert graphs.replays > 190
    assert warnings(caplog) == []


@pytest.mark.slow
@pytest.mark.parametrize("clip", [None, partial(torch.nn.utils.clip_grad_norm_, max_norm=1.0)])
def test_a_rate_that_moves_between_two_steps_goes_into_the_graph(clip: Any) -> None:
    states = []
    for wrap in (lambda step: step, lambda step: capturing(step)[0]):
        step = new_step(gradient_clip=clip)
        schedule = torch.optim.lr_scheduler.StepLR(step.optimizer, step_size=10, gamma=0.5)
        states.append(take(wrap(step), 60, lambda _, schedule=schedule: schedule.step()))
    assert same(*states)
    assert not same(states[0], take(new_step(gradient_clip=clip), 60))


def test_the_optimiser_keeps_its_rate_as_a_number_of_the_host() -> None:
    step, _ = capturing(new_step())
    take(step, 5)
    assert [group["lr"] for group in step.step.optimizer.param_groups] == [2**-7]


def test_an_objective_may_go_by_the_step_inside_a_graph(caplog: pytest.LogCaptureFixture) -> None:
    step, graphs = capturing(new_step(objective=WarmingUp(40)))
    assert same(take(step, 100), take(new_step(objective=WarmingUp(40)), 100))
    assert graphs.captures == 2
    assert warnings(caplog) == []


class Forgetful(ELBO):
    """An objective that breaks the contract: it counts its calls in Python, and weighs the KL by them."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = SimpleNamespace(calls=0)

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        self.counter.calls += 1
        terms = super().forward(vae, x, step)
        return Terms(terms.loss + self.counter.calls * terms.metrics["kl"], terms.metrics)


class Counted(Forgetful):
    """The same, with the count as an attribute of its own."""

    calls = 0

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        self.calls += 1
        return super().forward(vae, x, step)


def test_a_count_in_python_is_found_before_the_capture(caplog: pytest.LogCaptureFixture) -> None:
    step, graphs = capturing(new_step(objective=Counted()))
    assert same(take(step, 30), take(new_step(objective=Counted()), 30))
    assert graphs.captures == 0
    assert len(warnings(caplog)) == 1


def test_a_hidden_count_in_python_is_found_by_comparison(caplog: pytest.LogCaptureFixture) -> None:
    objective = Forgetful()
    step, graphs = capturing(new_step(objective=objective), objective.counter)
    take(step, 100)
    assert step.given_up
    assert graphs.captures == 1
    assert 1 <= graphs.replays <= 3 * STEPS_PER_EPOCH
    assert len(warnings(caplog)) == 1
    calls = objective.counter.calls
    take(step, 10)
    assert objective.counter.calls == calls + 10


def test_numbers_of_the_optimiser_that_change_are_found_out_before_they_are_missed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def between(optimizer: torch.optim.Optimizer, i: int) -> None:
        optimizer.param_groups[0]["betas"] = (0.9 if i < 20 else 0.5, 0.999)

    step, plain = capturing(new_step())[0], new_step()
    found = take(step, 40, partial(between, step.step.optimizer))
    assert same(found, take(plain, 40, partial(between, plain.optimizer)))
    assert len(warnings(caplog)) == 1


def test_a_step_that_cannot_be_captured_is_taken_as_it_stands(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: FakeGraphs, function: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nand much more")

    monkeypatch.setattr(FakeGraphs, "capture", refused)
    step, _ = capturing(new_step())
    assert same(take(step, 40), take(new_step(), 40))
    (line,) = warnings(caplog)
    assert "operation not permitted when stream is capturing" in line
    assert "much more" not in line


def test_a_model_with_a_mask_can_be_compared() -> None:
    step = new_step()
    step.vae.register_buffer("mask", torch.ones(3, dtype=torch.bool))
    wrapped, _ = capturing(step)
    take(wrapped, 20)
    assert not wrapped.given_up


@pytest.mark.parametrize(
    ("optimizer", "world_size", "words"),
    [(partial(torch.optim.Adagrad, lr=0.01), 1, "Adagrad"), (ADAM, 2, "several processes")],
)
def test_what_cannot_be_captured_at_all_is_said_in_one_line(
    optimizer: Any, world_size: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    step = new_step(optimizer, world_size=world_size)
    step.data.device = torch.device("cuda")
    assert captured(step) is step
    (line,) = warnings(caplog)
    assert "not captured" in line
    assert words in line


def test_on_a_cpu_nothing_is_captured_and_nothing_said(caplog: pytest.LogCaptureFixture) -> None:
    step = new_step()
    assert captured(step) is step
    assert step.optimizer.param_groups[0]["capturable"] is False
    assert warnings(caplog) == []


def test_a_checkpoint_of_a_captured_run_loads_without_a_gpu(tmp_path: Path) -> None:
    run = fit(path=tmp_path)
    make_capturable(run.optimizer)
    run.trainer.save_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert run.optimizer.param_groups[0]["capturable"] is True
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
    assert saved["param_groups"][0]["capturable"] is False
    again = fit("trainer.max_epochs=3", path=tmp_path, resume=True)
    assert same(again.state, fit("trainer.max_epochs=3").state)


# on a GPU

on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
GPU = ("accelerator=gpu", "trainer.max_epochs=14")


def assert_close(one: Fitted, other: Fitted) -> None:
    for name, value in one.state.items():
        torch.testing.assert_close(value, other.state[name], rtol=1e-3, atol=1e-4, msg=name)


# many models


def stacked_step(device: str = "cpu", **kwargs: Any) -> StackedStep:
    """The step of three models of different weights, the last with a learning rate of its own."""
    steps = [new_step(device=device, seed=seed, **kwargs) for seed in range(3)]
    steps[2].optimizer.param_groups[0]["lr"] = 2**-8
    return StackedStep(steps)


def take_stacked(step: Any, steps: int) -> list[dict[str, Tensor]]:
    """Takes so many steps of three models, each on minibatches and with noise of its own; returns their states."""
    bare: StackedStep = step.step if isinstance(step, CapturedStep) else step
    for indices, size, key in work(bare.steps[0], steps):
        minibatches = torch.stack([indices, indices.flip(0), (indices + 1) % bare.data.num_train])
        step(minibatches, size, tuple(("train", seed, *key[2:]) for seed in range(3)))
    return [{name: value.clone() for name, value in one.vae.state_dict().items()} for one in bare.steps]


@pytest.mark.slow
@pytest.mark.parametrize("clip", [None, partial(torch.nn.utils.clip_grad_norm_, max_norm=1.0)])
def test_stacked_steps_are_captured_as_well(clip: Any, caplog: pytest.LogCaptureFixture) -> None:
    bare, plain = stacked_step(gradient_clip=clip), stacked_step(gradient_clip=clip)
    graphs = FakeGraphs(bare)
    step = CapturedStep(bare, graphs)
    assert all(same(*pair) for pair in zip(take_stacked(step, 60), take_stacked(plain, 60), strict=True))
    assert graphs.captures == 2
    assert graphs.replays > 50
    assert warnings(caplog) == []


class Counting(ELBO):
    """An objective that counts its calls in a buffer, which a graph can do."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        self.calls += 1
        return super().forward(vae, x, step)


def test_an_audit_leaves_everything_as_one_step_does() -> None:
    counting = Counting()
    take(capturing(new_step(objective=counting))[0], 45)
    assert counting.calls == 45


def test_steps_that_diverge_alike_agree() -> None:
    nan, one = torch.tensor([torch.nan]), torch.ones(1)
    assert agree([nan, one], [nan, one])
    assert not agree([nan], [one])


class Curious(ELBO):
    """An objective that looks at a number on the way, which no graph can hold."""

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        terms = super().forward(vae, x, step)
        assert terms.loss.mean().item() != 0
        return terms


class TestOnGpu:
    pytestmark = on_gpu

    def test_what_cannot_be_captured_trains_on_uncaptured(self, caplog: pytest.LogCaptureFixture) -> None:
        bare = new_step(objective=Curious(), device="cuda")
        states = [take(step, 40) for step in (captured(bare), new_step(objective=Curious(), device="cuda"))]
        (warning,) = warnings(caplog)
        assert "cannot be captured as a CUDA graph" in warning
        for name, value in states[0].items():
            torch.testing.assert_close(value, states[1][name], rtol=1e-3, atol=1e-4)

    def test_stacked_steps_are_replayed_as_they_would_be_taken(self, caplog: pytest.LogCaptureFixture) -> None:
        bare = stacked_step("cuda")
        step = captured(bare, bare.streams)
        for replayed, plain in zip(take_stacked(step, 200), take_stacked(stacked_step("cuda"), 200), strict=True):
            for name, value in replayed.items():
                torch.testing.assert_close(value, plain[name], rtol=1e-3, atol=1e-4)
        assert isinstance(step, CapturedStep)
        assert warnings(caplog) == []

    @pytest.mark.parametrize("overrides", [(), ("lr_schedule=cosine",), ("gradient_clip=norm", "decoder=gaussian")])
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

    def test_a_rate_of_zero_stops_the_replayed_training(self) -> None:
        step = captured(new_step(device="cuda"))
        assert isinstance(step, CapturedStep)
        before = take(step, 20)
        step.step.optimizer.param_groups[0]["lr"] = 0.0
        assert same(take(step, 10), before)

    def test_a_captured_run_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        whole = fit(*GPU, "lr_schedule=cosine", path=tmp_path / "whole")
        fit(*GPU, "lr_schedule=cosine", "trainer.max_steps=100", path=tmp_path / "parts")
        assert_close(fit(*GPU, "lr_schedule=cosine", path=tmp_path / "parts", resume=True), whole)
