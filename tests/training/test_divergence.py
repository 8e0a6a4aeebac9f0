"""Numbers that are no longer finite: which step, what broke first, and how training goes on."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.commands import Run, assert_same_weights, only_run, results, status, steps_in
from tests.helpers.objectives import Changed, WarmingUp, moved
from tests.helpers.training import assert_same_state, by_hand, fit, same
from vaelab.errors import DivergedError
from vaelab.objectives import ELBO, Terms
from vaelab.randomness import generator, stream
from vaelab.runs.folder.contents import load_checkpoint
from vaelab.training import VAEModule
from vaelab.training.divergence import Guard
from vaelab.training.stacked_step import StackedStep

NAN, INF = float("nan"), float("inf")
Places = dict[tuple[int, int], float]  # (epoch, step): 15 steps an epoch, the last one of 38 examples
Breaks = Callable[[Places], None]


def images_of(epoch: int, step: int) -> list[int]:
    """The training images of a minibatch."""
    return torch.randperm(1438, generator=generator("shuffle", 0, epoch))[step * 100 : (step + 1) * 100].tolist()


@pytest.fixture
def broken_at(monkeypatch: pytest.MonkeyPatch) -> Breaks:
    """Add values to the reconstruction of the first example of some minibatches."""

    def breaks(places: Places) -> None:
        values = {stream("train", 0, *place, 0): value for place, value in places.items()}
        forward = ELBO.forward

        def objective(self: ELBO, vae: Any, x: Tensor, step: Tensor) -> Terms:
            by = torch.zeros(len(x))
            by[0] = values.get(torch.initial_seed(), 0.0)
            return moved(forward(self, vae, x, step), by)

        monkeypatch.setattr(ELBO, "forward", objective)

    return breaks


def without(places: set[tuple[int, int]], *overrides: str, **hooks: Any) -> dict[str, Tensor]:
    """What a loop written by hand trains that leaves these minibatches out."""
    left_out = [images_of(*place) for place in places]
    return by_hand(overrides, leave_out=lambda indices: indices.tolist() in left_out, **hooks).state_dict()


def diverged(*overrides: str, prepare: Callable[[VAEModule], Any] = id) -> tuple[DivergedError, VAEModule]:
    """Train until training diverges; return the error, and the module as it is then."""
    found: list[VAEModule] = []
    with pytest.raises(DivergedError) as caught:
        fit(*overrides, prepare=lambda module: (found.append(module), prepare(module)))
    return caught.value, found[0]


def test_large_numbers_are_finite() -> None:
    module = fit("trainer.max_steps=1").module
    parameter = next(module.vae.parameters())
    for value, finite in ((1e30, True), (INF, False), (NAN, False)):  # the square of 1e30 overflows
        torch.nn.init.constant_(parameter, value)
        assert module.guard.all_finite(torch.zeros(2)) == finite


# stop


@pytest.mark.slow
@pytest.mark.parametrize(("value", "chunk"), [(NAN, "steps_per_call=4"), (-INF, "steps_per_call=50")])
def test_training_stops_before_the_step_that_broke(value: float, chunk: str, broken_at: Breaks) -> None:
    expected = fit(chunk, "trainer.max_steps=21").state
    broken_at({(1, 6): value})
    error, module = diverged(chunk)
    batch, terms = images_of(1, 6), "a term of the objective (elbo, reconstruction, loss)"
    assert f"at step 22, {terms} for 1 of 100 examples (training images {batch[0]})" in str(error)
    assert error.details == {"step": 22, "not_finite": terms, "examples": batch[:1], "batch": batch}
    assert (module.steps, module.samples_seen) == (21, 1438 + 600)
    assert same(module.state_dict(), expected)


@pytest.mark.parametrize(
    ("name", "overrides", "first"),
    [
        ("encoder.head.loc.linear.bias", (), "the output of encoder.head.loc.linear (Linear)"),
        (
            *("decoder.head.scale.layer.linear.bias", ("decoder=gaussian",)),
            "the output of decoder.head.scale.layer.linear (Linear)",
        ),
    ],
)
def test_the_module_that_broke_first_is_named(name: str, overrides: tuple[str, ...], first: str) -> None:
    error, _ = diverged(*overrides, prepare=lambda module: module.vae.get_parameter(name).data.fill_(NAN))
    assert (error.details["not_finite"], error.details["step"]) == (first, 1)


@pytest.mark.parametrize(
    ("scale", "overrides", "first"),
    [
        (NAN, (), "the gradient of decoder.head"),
        (1e30, ("optimizer=adagrad",), "the optimizer's sum of encoder.network.layers.0"),
    ],
)
def test_a_gradient_is_found_while_the_bound_is_finite(scale: float, overrides: tuple[str, ...], first: str) -> None:
    def steep(terms: Terms, vae: Any) -> Terms:
        if torch.initial_seed() == stream("train", 0, 0, 9, 0):
            terms.loss.register_hook(lambda gradient: gradient * scale)
        return terms

    error, _ = diverged(*overrides, "steps_per_call=5", prepare=lambda m: setattr(m, "objective", Changed(steep)))
    assert (error.details["step"], error.details["examples"]) == (10, [])
    assert error.details["not_finite"].startswith(first)


@pytest.mark.slow
@pytest.mark.parametrize(
    "schedule",
    [
        ("lr_schedule=cosine", "lr_schedule.interval=step"),
        ("lr_schedule=plateau", "lr_schedule.scheduler.patience=0"),
    ],
)
def test_the_snapshot_may_be_many_steps_old(schedule: tuple[str, ...], broken_at: Breaks) -> None:
    broken_at({(6, 3): NAN})
    line = ("steps_per_call=7", "trainer.max_epochs=8", *schedule)
    _, module = diverged(*line, prepare=lambda module: setattr(module.guard, "SNAPSHOT_EVERY", 20))
    assert module.steps == 93
    assert same(module.state_dict(), fit(*line, "trainer.max_steps=93").state)


def test_few_snapshots_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    state = Guard.state
    monkeypatch.setattr(Guard, "state", lambda self: (kept.append(1), state(self))[1])
    fit("trainer.max_epochs=4", "steps_per_call=15")
    assert len(kept) == 1  # of 60 steps


# skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chunk", "optimizer"),
    [
        ("steps_per_call=4", ()),
        ("steps_per_call=50", ("optimizer._target_=torch.optim.SGD", "+optimizer.momentum=0.9")),
    ],
)
def test_a_skipped_step_leaves_no_trace(chunk: str, optimizer: tuple[str, ...], broken_at: Breaks) -> None:
    places = {(0, 0): NAN, (0, 7): INF, (1, 6): -INF, (1, 14): NAN}
    broken_at(places)
    fitted = fit("on_nan=skip", chunk, *optimizer)
    assert same(fitted.module.vae.state_dict(), without(set(places), *optimizer))
    assert fitted.module.guard.skipped == 4
    assert (fitted.module.steps, fitted.module.samples_seen) == (30, 2 * 1438)
    assert all(torch.tensor(value).isfinite() for _, value in fitted.curve("train/loss"))


def test_a_skipped_step_counts_in_no_mean(broken_at: Breaks) -> None:
    clean = fit("steps_per_call=1", "trainer.max_steps=3").curve("train/elbo")
    broken_at({(0, 3): NAN})
    curve = fit("on_nan=skip", "trainer.max_steps=4").curve("train/elbo")
    assert curve == [(4, pytest.approx(sum(value for _, value in clean) / 3))]


def test_schedules_count_skipped_steps(broken_at: Breaks) -> None:
    broken_at({(0, 5): NAN})
    fitted = fit("on_nan=skip", "lr_schedule=cosine", "lr_schedule.interval=step")
    make = fitted.module.lr_schedule
    assert make is not None
    expected = without({(0, 5)}, schedule=make.scheduler, after_step=lambda scheduler: scheduler.step())
    assert same(fitted.module.vae.state_dict(), expected)


def test_the_objective_is_told_the_number_of_the_step(broken_at: Breaks) -> None:
    broken_at({(0, 6): NAN})
    fitted = fit("on_nan=skip", "steps_per_call=4", prepare=lambda module: setattr(module, "objective", WarmingUp()))
    assert same(fitted.module.vae.state_dict(), without({(0, 6)}, objective=WarmingUp()))


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_too_many_undone_steps_stop_the_training(policy: str, broken_at: Breaks) -> None:
    broken_at({(0, step): NAN for step in range(2, 14)})
    error, _ = diverged(f"on_nan={policy}")
    assert "10 steps were undone before, and at step 13" in str(error)
    assert error.details["batch"] == images_of(0, 12)


@pytest.mark.slow
@pytest.mark.parametrize("snapshot_every", [1, 500])
def test_a_sound_step_ends_a_row(snapshot_every: int, broken_at: Breaks) -> None:
    broken_at({(epoch, step): NAN for epoch in (0, 1) for step in range(0, 14, 2)})
    often = ("on_nan=skip", "steps_per_call=1")
    fitted = fit(*often, prepare=lambda module: setattr(module.guard, "SNAPSHOT_EVERY", snapshot_every))
    assert fitted.module.guard.skipped == 14


# roll back


@pytest.mark.slow
def test_rollback_goes_on_with_the_weights_of_the_epochs_start(broken_at: Breaks) -> None:
    broken_at({(0, 3): NAN, (0, 9): NAN, (1, 6): NAN})
    fitted = fit("on_nan=rollback", "steps_per_call=4")
    left_out = {(0, step) for step in range(10)} | {(1, step) for step in range(7)}
    assert same(fitted.module.vae.state_dict(), without(left_out))
    assert (fitted.module.steps, fitted.module.guard.skipped) == (30, 3)


class Counting(ELBO):
    """The usual bound, with a running count in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, vae: Any, x: Tensor, step: Tensor) -> Terms:
        self.calls += vae.training
        return super().forward(vae, x, step)


def test_an_objectives_own_tensors_are_rolled_back(broken_at: Breaks) -> None:
    broken_at({(1, 6): NAN})
    fitted = fit("on_nan=rollback", "steps_per_call=4", prepare=lambda m: setattr(m, "objective", Counting()))
    assert fitted.module.objective.calls == 15 + 8  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_rollbacks_checkpoint_loads(tmp_path: Path) -> None:
    fit("on_nan=rollback", "model=shared", "hidden_features=500", "trainer.max_steps=20", path=tmp_path)
    assert load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["counts"]["steps"] == 20


# the run


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "steps"), [("skip", 22), ("rollback", 27)])
def test_an_interruption_changes_nothing(policy: str, steps: int, broken_at: Breaks, tmp_path: Path) -> None:
    broken_at({(1, 6): NAN, (1, 9): NAN})
    line = (f"on_nan={policy}", "steps_per_call=5")
    fit(*line, f"trainer.max_steps={steps}", path=tmp_path)
    assert_same_state(fit(*line, path=tmp_path, resume=True), fit(*line))


@pytest.mark.slow
def test_a_run_that_diverged_can_go_on(run_fast: Run, tmp_path: Path, broken_at: Breaks, monkeypatch: Any) -> None:
    broken_at({(1, 6): NAN})
    outcome = run_fast("trainer.max_epochs=3", code=1)
    (line,) = outcome.err.splitlines()
    assert line.startswith(
        "vaelab: training diverged: at step 22, a term of the objective (elbo, reconstruction, loss)"
    )
    assert "for 1 of 100 examples" in line
    assert "on_nan=skip" in line
    path = only_run(tmp_path)
    assert (status(path)["state"], status(path)["details"]["batch"]) == ("failed", images_of(1, 6))
    assert steps_in(path) == 21
    assert run_fast("trainer.max_epochs=3", code=1).err == outcome.err
    monkeypatch.undo()  # what broke it is mended
    assert run_fast("trainer.max_epochs=3").path == path
    assert_same_weights(path, run_fast("trainer.max_epochs=3", "name=whole").path)


@pytest.mark.slow
def test_the_command_tells_of_each_skipped_step(run_fast: Run, broken_at: Breaks) -> None:
    broken_at({(0, 3): NAN, (0, 9): NAN})
    outcome = run_fast("on_nan=skip")
    first, _ = outcome.err.splitlines()
    assert "at step 4, a term of the objective (elbo, reconstruction, loss) for 1 of 100 examples" in first
    assert "training goes on with the next minibatch" in first
    assert str(images_of(0, 3)) in (outcome.path / "train.log").read_text()
    assert results(outcome.path)["skipped_steps"] == 2


@pytest.mark.slow
def test_skipping_is_science_and_stopping_is_not(run_fast: Run) -> None:
    path = run_fast("trainer.max_steps=2").path
    assert run_fast("trainer.max_steps=2", "on_nan=stop").path == path
    assert run_fast("trainer.max_steps=2", "on_nan=skip").path != path


@pytest.mark.slow
def test_a_stacked_run_that_breaks_goes_on_alone(run_fast: Run, tmp_path: Path, monkeypatch: Any) -> None:
    call, calls = StackedStep.__call__, iter(range(1, 1000))

    def spoilt(self: StackedStep, indices: Tensor, size: int, key: Any) -> None:
        call(self, indices, size, key)
        if next(calls) == 20:
            self.bounds[1].get_parameter("vae.decoder.head.logits.linear.bias").data.fill_(NAN)

    monkeypatch.setattr(StackedStep, "__call__", spoilt)
    outcome = run_fast("seeds=3", "stacked=true", "trainer.max_epochs=3")
    assert "a number was not finite, but all are finite after the steps were repeated" in outcome.err
    assert [status(path)["state"] for path in tmp_path.glob("logs/runs/*")] == ["done"] * 3


def test_the_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(DivergedError("at step 3", {"step": 3})))
    assert (str(error), error.details) == ("at step 3", {"step": 3})
