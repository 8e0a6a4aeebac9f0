"""Numbers that are no longer finite: which step, what broke first, and how training goes on."""

import json
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.commands import Run, assert_same_weights, results, weights
from tests.helpers.objectives import Changed, WarmingUp, moved
from tests.helpers.training import Fitted, assert_same_state, by_hand, fit, same
from vaelab.data import ImageData
from vaelab.errors import DivergedError
from vaelab.objectives import ELBO, Terms
from vaelab.randomness import generator, stream
from vaelab.runs.folder.contents import load_checkpoint
from vaelab.training import VAEModule
from vaelab.training import divergence as guard_module

BATCH = 100  # 15 steps an epoch, the last one of 38 examples


def images_of(epoch: int, step: int, seed: int = 0) -> list[int]:
    """The training images of a minibatch."""
    return torch.randperm(1438, generator=generator("shuffle", seed, epoch))[step * BATCH : (step + 1) * BATCH].tolist()


@pytest.fixture(autouse=True)
def draws(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The indices of every draw, of which the last is the one that an objective sees."""
    drawn: list[list[int]] = []
    draw = ImageData.draw
    monkeypatch.setattr(
        ImageData, "draw", lambda self, split, indices: (drawn.append(indices.tolist()), draw(self, split, indices))[1]
    )
    return drawn


@pytest.fixture
def broken_at(draws: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`broken_at({(epoch, step): value, ...})`: the reconstruction of the first example of these minibatches."""

    def breaks(places: dict[tuple[int, int], float], seed: int = 0) -> None:
        spoilt = {tuple(images_of(*place, seed)): value for place, value in places.items()}
        forward = ELBO.forward

        def objective(self: ELBO, vae: Any, x: Tensor, step: Tensor) -> Terms:
            terms = forward(self, vae, x, step)
            value = spoilt.get(tuple(draws[-1]), 0.0)
            return moved(terms, torch.zeros_like(terms.loss).index_fill(0, torch.tensor([0]), value))

        monkeypatch.setattr(ELBO, "forward", objective)

    return breaks


def without(places: set[tuple[int, int]], *overrides: str, epochs: int = 2, **hooks: Any) -> dict[str, Tensor]:
    """What a loop written by hand trains that leaves these minibatches out."""
    left_out = [images_of(*place) for place in places]
    return by_hand(overrides, epochs, leave_out=lambda indices: indices.tolist() in left_out, **hooks).state_dict()


def assert_weights(fitted: Fitted, expected: dict[str, Tensor]) -> None:
    for name, value in fitted.module.vae.state_dict().items():
        assert torch.equal(value, expected[name]), name


# stop


@cache
def stopped_before(chunk: str) -> dict[str, Tensor]:
    """The state after 21 steps."""
    return fit(chunk, "trainer.max_steps=21").state


CHUNKS = ("steps_per_call=4", "steps_per_call=50", "steps_per_call=1")


def each(*cases: Any) -> list[Any]:
    """Pair each case with the first of `CHUNKS`, and the first case with all; `make test-all` runs the other pairs."""
    pairs = [(case, chunk) for case in cases for chunk in CHUNKS]
    fast = [(case, chunk) for case, chunk in pairs if case is cases[0] or chunk == CHUNKS[0]]
    return fast + [pytest.param(*pair, marks=pytest.mark.exhaustive) for pair in pairs if pair not in fast]


@pytest.mark.slow
@pytest.mark.parametrize(("value", "chunk"), each(float("nan"), float("inf"), -float("inf")))
def test_training_stops_before_the_step_that_broke_and_says_which(value: float, chunk: str, broken_at: Any) -> None:
    expected = stopped_before(chunk)
    broken_at({(1, 6): value})
    found: list[VAEModule] = []
    with pytest.raises(DivergedError, match=r"at step 22, the reconstruction for 1 of 100 examples") as caught:
        fit(chunk, prepare=found.append)
    (module,) = found
    batch = images_of(1, 6)
    assert f"(training images {batch[0]})" in str(caught.value)
    details = {"step": 22, "not_finite": "the reconstruction", "examples": batch[:1], "batch": batch}
    assert caught.value.details == details
    assert (module.steps, module.samples_seen) == (21, 1438 + 600)
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, expected[name]), name


def spoil_parameter(name: str, value: float) -> Callable[[VAEModule], None]:
    def prepare(module: VAEModule) -> None:
        with torch.no_grad():
            module.vae.get_parameter(name).view(-1)[0] = value

    return prepare


@pytest.mark.parametrize(
    ("name", "value", "overrides", "first"),
    [
        ("decoder.head.logits.linear.bias", float("nan"), (), "the output of decoder.head.logits.linear (Linear)"),
        ("encoder.network.layers.0.weight", float("inf"), (), "the output of encoder.network.layers.0 (Linear)"),
        ("encoder.head.loc.linear.bias", float("nan"), (), "the output of encoder.head.loc.linear (Linear)"),
        (
            *("decoder.head.scale.layer.linear.bias", float("nan"), ("decoder=gaussian",)),
            "the output of decoder.head.scale.layer.linear (Linear)",
        ),
    ],
)
def test_what_broke_first_is_named(name: str, value: float, overrides: tuple[str, ...], first: str) -> None:
    found: list[VAEModule] = []

    def prepare(module: VAEModule) -> None:
        found.append(module)
        names = [key for key, _ in module.vae.named_parameters()]
        assert name in names, names
        spoil_parameter(name, value)(module)

    with pytest.raises(DivergedError) as caught:
        fit(*overrides, prepare=prepare)
    assert caught.value.details["not_finite"] == first
    assert caught.value.details["step"] == 1


def test_a_head_whose_distribution_breaks_is_named_by_its_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    from vaelab.heads import PerPixelScale

    forward, calls = PerPixelScale.forward, iter(range(1, 10_000))

    def scale(self: PerPixelScale, features: Tensor) -> Tensor:
        return forward(self, features) * (float("nan") if features.shape[-1] == 8 and next(calls) > 40 else 1)

    monkeypatch.setattr(PerPixelScale, "forward", scale)
    with pytest.raises(DivergedError) as caught:
        fit("decoder=gaussian", "steps_per_call=1")
    assert "scale" in caught.value.details["not_finite"]


def test_a_gradient_that_breaks_while_the_bound_is_finite_is_found_at_its_own_step() -> None:
    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, bad: bool) -> Tensor:
            ctx.bad = bad
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
            return gradient * (float("nan") if ctx.bad else 1), None

    def prepare(module: VAEModule) -> None:
        def wrapped(terms: Terms, vae: Any) -> Terms:
            bad = module.training and torch.initial_seed() == bad_stream
            return Terms(Root.apply(terms.loss, bad), terms.metrics)  # type: ignore[arg-type]

        module.objective = Changed(wrapped)

    bad_stream = stream("train", 0, 0, 9, 0)
    with pytest.raises(DivergedError) as caught:
        fit("steps_per_call=5", prepare=prepare)  # at the end of a chunk, whose bounds are all finite
    assert caught.value.details["step"] == 10
    assert caught.value.details["not_finite"].startswith("the gradient of decoder.head")
    assert caught.value.details["examples"] == []


@pytest.mark.slow
def test_the_state_that_is_kept_may_be_from_many_steps_ago(broken_at: Any) -> None:
    broken_at({(6, 3): float("nan")})
    found: list[VAEModule] = []

    def prepare(module: VAEModule) -> None:
        found.append(module)
        module.guard.snapshot_every = 20

    line = ("steps_per_call=7", "trainer.max_epochs=8", "lr_schedule=cosine", "lr_schedule.interval=step")
    with pytest.raises(DivergedError):
        fit(*line, prepare=prepare)
    other = fit(*line, "trainer.max_steps=93")
    assert found[0].steps == 93
    for name, weight in found[0].state_dict().items():
        assert torch.equal(weight, other.state[name]), name


def test_a_plateau_schedule_moves_the_rate_between_kept_states(broken_at: Any) -> None:
    broken_at({(4, 3): float("nan")})
    found: list[VAEModule] = []
    line = ("trainer.max_epochs=6", "lr_schedule=plateau", "lr_schedule.scheduler.patience=0")
    with pytest.raises(DivergedError):
        fit(*line, prepare=found.append)
    other = fit(*line, "trainer.max_steps=63")
    for name, weight in found[0].state_dict().items():
        assert torch.equal(weight, other.state[name]), name


# skip


@pytest.mark.parametrize(
    ("overrides", "chunk"),
    each((), ("optimizer=adagrad",), ("optimizer._target_=torch.optim.SGD", "+optimizer.momentum=0.9")),
)
def test_a_skipped_step_leaves_no_trace_but_in_the_counts(
    overrides: tuple[str, ...], chunk: str, broken_at: Any
) -> None:
    places = {(0, 0): float("nan"), (0, 7): float("inf"), (1, 6): -float("inf"), (1, 14): float("nan")}
    broken_at(places)
    fitted = fit("on_nan=skip", chunk, *overrides)
    assert_weights(fitted, without(set(places), *overrides))
    assert fitted.module.guard.skipped == 4
    assert (fitted.module.steps, fitted.module.samples_seen) == (30, 2 * 1438)
    assert all(torch.tensor(value).isfinite() for _, value in fitted.curve("train/loss"))


def test_the_mean_over_a_chunk_is_over_the_examples_that_counted(broken_at: Any) -> None:
    clean = fit("steps_per_call=1", "trainer.max_steps=3").curve("train/elbo")
    broken_at({(0, 3): float("nan")})
    curve = fit("on_nan=skip", "trainer.max_steps=4").curve("train/elbo")
    assert [step for step, _ in curve] == [4]
    assert curve[0][1] == pytest.approx(sum(value for _, value in clean) / 3)


def test_schedules_of_steps_go_by_the_number_of_the_step(broken_at: Any) -> None:
    broken_at({(0, 5): float("nan")})
    line = ("lr_schedule=cosine", "lr_schedule.interval=step", "optimizer.lr=0.01")
    fitted = fit("on_nan=skip", *line)
    make = fitted.module.lr_schedule
    assert make is not None
    expected = without({(0, 5)}, "optimizer.lr=0.01", schedule=make.scheduler, after_step=lambda s: s.step())
    assert_weights(fitted, expected)


def test_too_many_steps_in_a_row_stop_the_training(broken_at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_at({(0, step): float("nan") for step in range(2, 14)})
    with pytest.raises(DivergedError, match=r"10 steps were undone before, and at step 13") as caught:
        fit("on_nan=skip")
    assert caught.value.details["batch"] == images_of(0, 12)


def test_steps_in_between_make_no_row(broken_at: Any) -> None:
    broken_at({(epoch, step): float("nan") for epoch in (0, 1) for step in range(0, 15, 2)})
    assert fit("on_nan=skip").module.guard.skipped == 16


# roll back


def test_rollback_goes_on_with_the_weights_that_the_epoch_began_with(broken_at: Any) -> None:
    broken_at({(1, 6): float("nan")})
    fitted = fit("on_nan=rollback", "steps_per_call=4")
    assert_weights(fitted, without({(1, step) for step in range(7)}))
    assert (fitted.module.steps, fitted.module.guard.skipped) == (30, 1)


def test_rollback_in_the_first_epoch_goes_back_to_the_first_weights(broken_at: Any) -> None:
    broken_at({(0, 3): float("nan"), (0, 9): float("nan")})
    assert_weights(fit("on_nan=rollback"), without({(0, step) for step in range(10)}))


def test_too_many_rollbacks_in_one_epoch_stop_the_training(broken_at: Any) -> None:
    broken_at({(0, step): float("nan") for step in range(12)})
    with pytest.raises(DivergedError, match="10 steps were undone before"):
        fit("on_nan=rollback")


# the run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "steps"),
    [
        *(("skip", 22), ("rollback", 22), ("rollback", 27)),
        *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in (("skip", 17), ("skip", 27), ("rollback", 17))),
    ],
)
def test_a_run_that_was_interrupted_before_or_after_the_step_ends_as_if_it_had_not_been(
    policy: str, steps: int, broken_at: Any, tmp_path: Path
) -> None:
    broken_at({(1, 6): float("nan"), (1, 9): float("nan")})
    line = (f"on_nan={policy}", "steps_per_call=5")
    fit(*line, f"trainer.max_steps={steps}", path=tmp_path)
    assert_same_state(fit(*line, path=tmp_path, resume=True), fit(*line))


@pytest.mark.slow
def test_the_command_says_what_broke_and_its_last_checkpoint_is_from_right_before(
    run_fast: Run, tmp_path: Path, broken_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context():
        broken_at({(1, 6): float("nan")})
        outcome = run_fast("trainer.max_epochs=3", code=1)
    (line,) = outcome.err.splitlines()
    assert line.startswith("vaelab: training diverged: at step 22, the reconstruction for 1 of 100 examples")
    assert "on_nan=skip" in line
    (path,) = tmp_path.glob("logs/runs/*")
    found = json.loads((path / "status.json").read_text())
    assert (found["state"], found["details"]["batch"]) == ("failed", images_of(1, 6))
    assert torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["counts"]["steps"] == 21
    again = run_fast("trainer.max_epochs=3", code=1)
    assert again.err == outcome.err
    monkeypatch.undo()  # what broke it is mended
    assert run_fast("trainer.max_epochs=3").path == path
    assert_same_weights(path, run_fast("trainer.max_epochs=3", "name=whole").path)


def test_the_command_tells_of_each_step_that_it_skips_and_counts_them(
    run_fast: Run, broken_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_at({(0, 3): float("nan"), (0, 9): float("nan")})
    outcome = run_fast("on_nan=skip")
    lines = outcome.err.splitlines()
    assert len(lines) == 2
    assert "at step 4, the reconstruction for 1 of 100 examples" in lines[0]
    assert "training goes on with the next minibatch" in lines[0]
    log = (outcome.path / "train.log").read_text()
    assert str(images_of(0, 3)) in log
    assert results(outcome.path)["skipped_steps"] == 2


@pytest.mark.slow
def test_skipping_is_part_of_what_a_run_is_and_stopping_is_not(run_fast: Run) -> None:
    line = ("trainer.max_steps=2",)
    path = run_fast(*line).path
    assert run_fast(*line, "on_nan=stop").path == path
    assert run_fast(*line, "on_nan=skip").path != path
    assert weights(path).keys() == weights(run_fast(*line, "on_nan=rollback").path).keys()


@pytest.mark.slow
def test_a_stacked_run_that_breaks_says_so_and_leaves_the_others(
    run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaelab.training.stacked_step import StackedStep

    call = StackedStep.__call__
    calls = iter(range(1, 1000))

    def spoilt(self: StackedStep, indices: Tensor, size: int, key: Any) -> None:
        call(self, indices, size, key)
        if next(calls) == 20:
            with torch.no_grad():
                self.bounds[1].get_parameter("vae.decoder.head.logits.linear.bias").fill_(float("nan"))

    monkeypatch.setattr(StackedStep, "__call__", spoilt)
    outcome = run_fast("seeds=3", "stacked=true", "trainer.max_epochs=3")
    # alone, the steps do not break: the member goes on from numbers that are finite
    assert "numbers were not finite, but are so when the steps are taken again" in outcome.err
    states = [json.loads(path.read_text())["state"] for path in tmp_path.glob("logs/runs/*/status.json")]
    assert states == ["done"] * 3


def test_the_guard_keeps_one_state_in_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    state = guard_module.Guard.state
    monkeypatch.setattr(guard_module.Guard, "state", lambda self: (kept.append(1), state(self))[1])
    fit("trainer.max_epochs=10", "steps_per_call=15")
    assert len(kept) == 1  # of 150 steps


class Counting(ELBO):
    """The usual bound, with a running count in a buffer, as a running scale would be."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, vae: Any, x: Tensor, step: Tensor) -> Terms:
        if vae.training:
            self.calls += 1
        return super().forward(vae, x, step)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_an_objectives_own_tensors_are_put_back_as_well(policy: str, broken_at: Any) -> None:
    broken_at({(1, 6): float("nan")})

    def prepare(module: VAEModule) -> None:
        module.objective = Counting()

    fitted = fit(f"on_nan={policy}", "steps_per_call=4", prepare=prepare)
    assert fitted.module.objective.calls == (29 if policy == "skip" else 15 + 8)  # type: ignore[attr-defined]


def test_a_schedule_in_the_objective_goes_by_the_step_whatever_was_undone(broken_at: Any) -> None:
    broken_at({(0, 6): float("nan")})
    line = ("on_nan=skip", "steps_per_call=4", "trainer.max_epochs=1")
    fitted = fit(*line, prepare=lambda module: setattr(module, "objective", WarmingUp()))
    seen: list[int] = []

    class Watched(WarmingUp):
        def forward(self, vae: Any, x: Tensor, step: Tensor) -> Terms:
            seen.append(int(step))
            return super().forward(vae, x, step)

    expected = by_hand(epochs=1, leave_out=lambda indices: indices.tolist() == images_of(0, 6), objective=Watched())
    assert seen == [*range(6), *range(7, 15)]
    assert same(fitted.module.vae.state_dict(), expected.state_dict())


def test_an_optimizer_that_can_move_no_more_is_found_while_all_else_is_finite(broken_at: Any) -> None:
    with pytest.raises(DivergedError) as caught:
        fit("optimizer=adagrad", prepare=with_a_gradient_of(1e30))
    assert caught.value.details["not_finite"].startswith("the optimizer's sum of encoder.network.layers.0")
    assert caught.value.details["step"] == 4


def with_a_gradient_of(scale: float) -> Callable[[VAEModule], None]:
    def prepare(module: VAEModule) -> None:
        noise = stream("train", 0, 0, 3, 0)

        def steep(terms: Terms, vae: Any) -> Terms:
            factor = scale if vae.training and torch.initial_seed() == noise else 1.0
            return Terms(terms.loss + (factor - 1) * (terms.loss - terms.loss.detach()), terms.metrics)

        module.objective = Changed(steep)

    return prepare


def test_sound_steps_end_a_row_wherever_states_are_kept(broken_at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_at({(epoch, step): float("nan") for epoch in (0, 1) for step in range(0, 14, 2)})
    before = guard_module.Guard.before
    monkeypatch.setattr(guard_module.Guard, "before", lambda self, batches: (self.forget(), before(self, batches))[1])
    assert fit("on_nan=skip", "steps_per_call=1").module.guard.skipped == 14


def test_checkpoints_of_a_rollback_hold_shared_weights_as_any_other(tmp_path: Path) -> None:
    line = ("on_nan=rollback", "model=shared", "hidden_features=500", "trainer.max_steps=20")
    fit(*line, path=tmp_path)
    assert load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["counts"]["steps"] == 20


def test_what_stops_a_run_finds_its_way_out_of_another_process() -> None:
    error = pickle.loads(pickle.dumps(DivergedError("at step 3", {"step": 3}, 2)))
    assert (str(error), error.details, error.taken) == ("at step 3", {"step": 3}, 2)
