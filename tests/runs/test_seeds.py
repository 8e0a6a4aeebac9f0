"""Many seeds by one command: the runs are those of separate commands, whatever takes their steps."""

import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributions as td

from tests.helpers.choices import choices
from tests.helpers.commands import (
    Outcome,
    Run,
    assert_same_weights,
    composing,
    fast,
    results,
    run_main,
    status,
    wait_until,
    weights,
)
from tests.helpers.training import script_validations
from vaelab import train
from vaelab.heads import DiagonalGaussian
from vaelab.randomness import drawing_from, standard_normal
from vaelab.runs.build import build
from vaelab.runs.configuration import plain
from vaelab.runs.folder.identity import identity
from vaelab.runs.folder.names import folder_of_seed
from vaelab.runs.processes import seeds
from vaelab.runs.processes.seeds import over_seeds, why_not_stacked
from vaelab.signals import Stop
from vaelab.training import VAEModule
from vaelab.training.stacked_step import StackedStep
from vaelab.training.step import Step

CONFIGURATIONS = [
    ("decoder=gaussian_optimal", "batch_size=64"),
    ("objective.num_samples=2", "objective.closed_form=false", "data.binarize=fixed", "trainer.val_check_interval=4"),
    ("optimizer=adagrad", "initialization=normal", "weight_prior=normal"),
    ("model=hierarchical", "network=gated", "objective=stl"),
    ("lr_schedule=plateau", "lr_schedule.scheduler.patience=0", "trainer.max_epochs=4"),
    ("decoder=gaussian", "model=shared", "gradient_clip=norm", "gradient_clip.max_norm=1"),
    ("prior=vamp", "prior.init=data", "prior.num_pseudo_inputs=5"),
    ("prior=mixture", "prior.covariance=full"),
    ("optimizer=adam_from", "gradient_clip=unit", "initialization=glorot", "+data.shuffle=false"),
    ("decoder=logistic", "gradient_clip=value", "gradient_clip.clip_value=0.1", "lr_schedule=cosine"),
]


def folders(cwd: Path) -> dict[int, Path]:
    """The run folders below `cwd`, by their seeds."""
    found = {int(re.search(r"-s(\d+)-", path.name)[1]): path for path in cwd.glob("logs/runs/*")}  # type: ignore[index]
    return dict(sorted(found.items()))


def assert_close_runs(one: Path, other: Path) -> None:
    here, there = weights(one), weights(other)
    assert here.keys() == there.keys()
    for name, value in here.items():
        torch.testing.assert_close(value, there[name], rtol=1e-3, atol=1e-5, msg=lambda text: f"{name}: {text}")  # noqa: B023
    assert results(one) == pytest.approx(results(other), rel=1e-4, abs=1e-3)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[int, Path]]:
    """`alone(2, "latent_dim=3")`: separate runs of seeds 0 and 1, elsewhere; their folders are for reading only."""

    @cache
    def run(seed: int, *overrides: str) -> Path:
        return run_main(train.main, tmp_path_factory.mktemp("alone"), *fast(*overrides, f"seed={seed}")).path

    return lambda count, *overrides: {seed: run(seed, *overrides) for seed in range(count)}


# stacked


@pytest.mark.slow
@pytest.mark.parametrize("overrides", CONFIGURATIONS, ids=" ".join)
def test_stacked_runs_are_those_of_separate_commands(
    overrides: tuple[str, ...], run_fast: Run, alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "lr_schedule=plateau" in overrides:
        script_validations(monkeypatch)
    lines = ("trainer.max_epochs=2", *overrides) if "trainer.max_epochs=4" not in overrides else overrides
    outcome = run_fast("seeds=2", "stacked=true", *lines)
    made, expected = folders(outcome.cwd), alone(2, *lines)
    assert [path.name for path in made.values()] == [path.name for path in expected.values()]
    for seed, path in made.items():
        assert_close_runs(path, expected[seed])


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name"), [(g, n) for g in ("objective", "network", "model") for n in choices(g)])
def test_seeds_share_a_step_unless_the_objective_prevents_it(group: str, name: str) -> None:
    reason = why_not_stacked(composing(*fast(f"{group}={name}")))
    if name in ("dreg", "info", "wake_sleep"):  # a hook on the gradient of z; samples of the prior and of p(x|z)
        assert reason
    else:
        assert reason is None


@pytest.mark.slow
def test_seeds_that_stopped_at_different_steps_go_on_together(
    run_fast: Run, alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("trainer.max_epochs=4", "steps_per_call=5")
    run_fast(*line, "seed=0", "trainer.max_steps=7")
    run_fast(*line, "seed=2", "trainer.max_steps=20")
    formed: list[int] = []
    init = StackedStep.__init__
    monkeypatch.setattr(StackedStep, "__init__", lambda self, steps: (formed.append(len(steps)), init(self, steps))[1])
    outcome = run_fast(*line, "seeds=3", "stacked=true")
    assert formed == [1, 1, 2, 3]  # those behind catch up, and then all go on as one
    for seed, folder in alone(3, *line).items():
        assert_close_runs(folders(outcome.cwd)[seed], folder)


@pytest.mark.slow
def test_stacked_runs_share_a_table_but_no_files(run_fast: Run, alone: Any) -> None:
    outcome = run_fast("seeds=3", "stacked=true", "logger=wandb", "name=here")
    paths = list(outcome.cwd.glob("logs/runs/*"))
    assert {path.name.rpartition("-")[0] for path in paths} == {"here"}
    assert len({status(path)["run_id"] for path in paths}) == 3
    for path in paths:
        (offline,) = path.glob("wandb/offline-run-*")
        assert offline.name.endswith(status(path)["run_id"])
        assert f"logs/runs/{path.name}" in outcome.out
        for name in ("last", "best"):
            size = (path / "checkpoints" / f"{name}.ckpt").stat().st_size
            assert size < 1.05 * (alone(1)[0] / "checkpoints" / f"{name}.ckpt").stat().st_size
    bounds = [results(path)["test/elbo"] for path in paths]
    row = next(line for line in outcome.out.splitlines() if "ELBO" in line)
    assert "mean of 3 seeds" in outcome.out
    assert f"{np.mean(bounds):.2f}" in row
    assert f"{np.std(bounds, ddof=1):.2f}" in row


@pytest.mark.slow
def test_a_seed_that_fails_leaves_the_others_training(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    report = VAEModule.report_training

    def failing(self: VAEModule, size: int) -> None:
        if self.seed == 1 and self.steps > 15:
            raise RuntimeError("Bang")
        report(self, size)

    monkeypatch.setattr(VAEModule, "report_training", failing)
    outcome = run_fast("seeds=3", "stacked=true", "trainer.max_epochs=2", code=1)
    assert outcome.err == "vaelab: 1 of 3 seeds failed, the others are done: seed 1: Bang (RuntimeError)\n"
    states = [status(path)["state"] for path in folders(outcome.cwd).values()]
    assert states == ["done", "failed", "done"]
    assert "Traceback" in (folders(outcome.cwd)[1] / "train.log").read_text()
    assert "Traceback" not in (folders(outcome.cwd)[0] / "train.log").read_text()  # to each its own log


class Usual(DiagonalGaussian):
    """Draws as `torch.distributions` does, which a stack of generators does not reach."""

    def forward(self, features: torch.Tensor) -> td.Distribution:
        normal = super().forward(features).base_dist  # type: ignore[attr-defined]
        return td.Independent(td.Normal(normal.loc, normal.scale), 1)


@pytest.mark.slow
def test_noise_that_cannot_be_stacked_is_refused(run_fast: Run) -> None:
    head = f"encoder.head._target_={__name__}.Usual"
    outcome = run_fast(head, "seeds=2", "stacked=true", code=1)
    assert outcome.err.count("\n") == 1
    assert "stacked=false" in outcome.err
    run_fast(head, "seed=0")


def test_a_buffer_that_is_assigned_anew_is_refused(composed: Any) -> None:
    steps = []
    for seed in range(2):
        data, module = build(composed(*fast(), f"seed={seed}"))
        module.vae.decoder.network.register_buffer("mean", torch.zeros(()))
        module.vae.decoder.network.register_forward_hook(lambda network, *_: setattr(network, "mean", network.mean + 1))
        steps.append(Step(module.vae, module.objective, data, torch.optim.Adam(module.vae.parameters())))
    keys = tuple(("train", seed, 0, 0, 0) for seed in range(2))
    with pytest.raises(RuntimeError, match=r"vae.decoder.network.mean is reassigned"):
        StackedStep(steps)(torch.arange(20).view(2, 10), 10, keys)  # type: ignore[arg-type]


def test_over_seeds_averages_what_all_runs_have() -> None:
    average, spread = over_seeds([{"a": 1.0, "b": math.nan, "n": 5, "c": 2.0}, {"a": 4.0, "b": 1.0, "n": 5}]).values()
    assert average == {"a": 2.5, "b": pytest.approx(math.nan, nan_ok=True), "n": 5}
    assert spread == {"a": pytest.approx(np.std([1, 4], ddof=1)), "b": pytest.approx(math.nan, nan_ok=True)}


def test_under_vmap_each_model_draws_what_it_would_draw_alone() -> None:
    streams = [torch.Generator().manual_seed(seed) for seed in (3, 5)]
    with drawing_from(streams):
        drawn = torch.vmap(lambda like: standard_normal(torch.Size([4, 7]), like))(torch.zeros(2, 3))
    for own, seed in zip(drawn, (3, 5), strict=True):
        torch.manual_seed(seed)
        assert torch.equal(own, torch.randn(4, 7))


# folders


@pytest.mark.slow
def test_seeds_of_a_sweep_stand_beside_each_other(run_fast: Run) -> None:
    outcome = run_fast("-m", "latent_dim=2,3", "seeds=2", "seed=4", "stacked=true")
    names = sorted(path.parent.name for path in outcome.cwd.glob("logs/sweeps/*/*/metrics.json"))
    assert len(names) == 4
    for name, (z, seed) in zip(names, [(2, 4), (2, 5), (3, 4), (3, 5)], strict=True):
        assert name.rpartition("-")[0].endswith(f"latent_dim_{z}-seed_{seed}")


def test_names_hold_the_seed_where_they_held_one_before(composed: Any) -> None:
    cfg, own = composed("seed=1"), composed("seed=12")
    for before, after in {
        "mnist-z1-s1-": "mnist-z1-s12-",
        "latent_dim_1-seed_1-": "latent_dim_1-seed_12-",
        "latent_dim_1-": "latent_dim_1-seed_12-",
        "data.seed_1-latent_dim_1-": "data.seed_1-latent_dim_1-seed_12-",
        "data.seed_1-seed_1-zeta_1-": "data.seed_1-seed_12-zeta_1-",
    }.items():
        path = Path("runs") / f"{before}{hash_of(cfg)}"
        assert folder_of_seed(path, cfg, own).name == f"{after}{hash_of(own)}"


def hash_of(cfg: Any) -> str:
    return identity(plain(cfg))


# in processes


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "vaelab.train", *fast(*overrides)]


def in_a_process(cwd: Path, *overrides: str, code: int = 0) -> Outcome:
    done = subprocess.run(command(*overrides), cwd=cwd, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr, cwd)


@pytest.mark.slow
def test_seeds_in_processes_equal_separate_commands_to_the_last_bit(tmp_path: Path, alone: Any) -> None:
    line = ("optimizer.lr=0.01", "trainer.max_epochs=2")
    outcome = in_a_process(tmp_path, *line, "seeds=2", "stacked=false", "logger=wandb")
    assert "mean of 2 seeds" in outcome.out
    assert outcome.err == ""
    for seed, folder in alone(2, *line).items():
        made = folders(tmp_path)[seed]
        assert_same_weights(made, folder)
        assert results(made) == results(folder)
        assert len(list(made.glob("wandb/offline-run-*"))) == 1


@pytest.mark.slow
def test_a_seed_whose_folder_cannot_be_written_fails_alone(tmp_path: Path, alone: Any) -> None:
    (tmp_path / "logs" / "runs").mkdir(parents=True)
    blocked = tmp_path / "logs" / "runs" / alone(2)[1].name
    blocked.write_text("not a folder")
    outcome = in_a_process(tmp_path, "seeds=3", "stacked=false", code=1)
    assert outcome.err.startswith("vaelab: 1 of 3 seeds failed, the others are done: seed 1: cannot write to ")
    assert outcome.err.count("\n") == 1
    assert len(list(tmp_path.glob("logs/runs/*/metrics.json"))) == 2


@contextmanager
def endless(cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Two seeds in processes that train without an end, once both have written a checkpoint."""
    line = command("seeds=2", "stacked=false", "trainer.max_epochs=100000")
    environ = os.environ | {"OMP_NUM_THREADS": "2"}  # so that both are under way
    process = subprocess.Popen(line, cwd=cwd, env=environ, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: len(list(cwd.glob("logs/runs/*/checkpoints/last.ckpt"))) == 2, process)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_seeds_that_are_stopped_are_interrupted_and_can_go_on(tmp_path: Path) -> None:
    with endless(tmp_path) as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "Traceback" not in err
    for path in folders(tmp_path).values():
        assert status(path)["state"] == "interrupted"
        assert weights(path)


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    with endless(tmp_path):
        pass  # which kills it
    wait_until(lambda: {status(path)["state"] for path in folders(tmp_path).values()} == {"interrupted"})


def test_a_process_that_is_killed_is_said_to_be(tmp_path: Path, composed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "_in_process", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    members = [seeds.Member(composed(), tmp_path)]
    seeds.in_processes(members, None, Stop())
    assert members[0].error == "its process was killed by SIGKILL; the machine may have run out of memory"
