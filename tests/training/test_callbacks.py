"""Callbacks: checkpoints, figures, the warning of collapse, the progress bar."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from tests.helpers.commands import Outcome, Run, fast, results, run_main, weights
from tests.helpers.training import assert_same_state, fit, same, script_validations, scripted_bound
from vaelab import train
from vaelab.randomness import seed_draws
from vaelab.runs.build import build
from vaelab.runs.folder.contents import read_config
from vaelab.training import Figures, ProgressBar, VAEModule, progress

ALWAYS = {"reconstructions", "predictive_check", "samples", "latent", "kl_per_dimension"}


# checkpoints


@pytest.fixture(scope="module")
def unsteady(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float], dict[float, dict[str, Any]]]:
    """A run whose bound falls again: its folder, the bound after each epoch, and the weights that gave it."""
    bounds, kept = [], {}
    report = VAEModule.report

    def spy(self: VAEModule, metrics: dict[str, Any]) -> dict[str, float]:
        values = report(self, metrics)
        if "val/elbo" in values and self.trainer.state.fn == "fit":
            bounds.append(values["val/elbo"])
            kept[values["val/elbo"]] = {name: value.clone() for name, value in self.state_dict().items()}
        return values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VAEModule, "report", spy)
        script_validations(patch)
        cwd = tmp_path_factory.mktemp("unsteady")
        path = run_main(train.main, cwd, *fast("trainer.max_epochs=5")).path
    return path, bounds, kept


@pytest.mark.slow
def test_best_holds_the_weights_of_the_highest_bound(unsteady: Any) -> None:
    path, bounds, kept = unsteady
    assert bounds == [scripted_bound(steps) for steps in (15, 30, 45, 60, 75)]
    assert max(bounds) > bounds[-1]
    for name, bound in (("best", max(bounds)), ("last", bounds[-1])):
        found = weights(path, name)
        assert found.keys() == kept[bound].keys()
        assert all(torch.equal(value, kept[bound][key]) for key, value in found.items())


@pytest.mark.slow
def test_the_metrics_of_best_are_those_of_its_weights(unsteady: Any) -> None:
    path, bounds, _ = unsteady
    metrics = results(path)
    assert metrics["best/val/elbo"] == max(bounds)
    assert metrics["val/elbo"] == bounds[-1]
    assert metrics["best/steps"] == 15 * (1 + bounds.index(max(bounds)))
    assert metrics["best/samples_seen"] == 1438 * (1 + bounds.index(max(bounds)))


def test_checkpoints_are_plain_data_without_paths(finished: Outcome) -> None:
    for name in ("last", "best"):
        file = finished.path / "checkpoints" / f"{name}.ckpt"
        checkpoint = torch.load(file, weights_only=True)
        assert checkpoint["counts"] == {"steps": 30, "samples_seen": 2876}
        assert checkpoint["optimizer_states"]
        assert str(finished.cwd).encode() not in file.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_nan_bound_is_never_the_best(epoch: int, run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = VAEModule.bound

    def spoiled(self: VAEModule, *args: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x, values = bound(self, *args)
        broken = self.trainer.state.fn == "fit" and self.steps == 15 * epoch
        return x, {name: value * torch.nan if broken else value for name, value in values.items()}

    monkeypatch.setattr(VAEModule, "bound", spoiled)
    metrics = results(run_fast("trainer.max_epochs=3").path)
    assert metrics["best/steps"] == 15 * (2 if epoch == 3 else 3)  # the bound rises from epoch to epoch


@pytest.mark.slow
def test_best_may_come_from_inside_an_epoch(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    script_validations(monkeypatch)
    metrics = results(run_fast("trainer.val_check_interval=4", "trainer.max_epochs=2").path)
    assert (metrics["best/steps"], metrics["best/val/elbo"]) == (8, scripted_bound(8))


def test_last_is_written_inside_an_epoch_too(tmp_path: Path) -> None:
    saved = []

    def watch(module: VAEModule) -> None:
        save = module.on_save_checkpoint
        module.on_save_checkpoint = lambda checkpoint: (saved.append(module.steps), save(checkpoint))[1]

    often = ("checkpoint_every_n_steps=6", "callbacks.checkpoints.monitor=none")
    fit(*often, "steps_per_call=4", path=tmp_path, prepare=watch)
    assert saved == [8, 15, 23, 30]
    saved.clear()
    fit("callbacks.checkpoints.monitor=none", "steps_per_call=4", path=tmp_path, prepare=watch)
    assert saved == [15, 30]


@pytest.mark.slow
def test_another_metric_may_choose_the_best(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    script_validations(monkeypatch, name="kl")
    script_validations(monkeypatch, float)  # the bound rises all the time
    metrics = results(run_fast("trainer.max_epochs=5", "callbacks.checkpoints.monitor=val/kl").path)
    assert (metrics["best/steps"], metrics["best/val/kl"]) == (45, scripted_bound(45))
    assert (metrics["steps"], metrics["val/kl"]) == (75, scripted_bound(75))


@pytest.mark.slow
def test_a_metric_that_is_never_reported_is_warned_of(run_fast: Run) -> None:
    own = ("+callbacks.own._target_=tests.helpers.callbacks.Keeps", "+callbacks.own.kind=scalar")  # may log any metric
    outcome = run_fast("callbacks.checkpoints.monitor=val/foo", *own)
    assert "val/foo" in outcome.err
    assert "val/elbo" in outcome.err  # what there is
    assert not (outcome.path / "checkpoints" / "best.ckpt").exists()


# figures


def figures(path: Path) -> dict[str, Image.Image]:
    return {file.stem: Image.open(file) for file in (path / "figures").iterdir()}


def test_figures_are_images_that_show_something(finished: Outcome) -> None:
    drawn = figures(finished.path)
    assert set(drawn) == ALWAYS | {"manifold"}
    for name, image in drawn.items():
        assert image.format == "PNG", name
        assert all(200 <= side <= 4000 for side in image.size), name
        assert np.asarray(image.convert("L")).std() > 5, name


@pytest.mark.slow
def test_the_manifold_is_drawn_for_two_latent_dimensions_only(run_fast: Run) -> None:
    assert set(figures(run_fast("latent_dim=3", figures=True).path)) == ALWAYS


@pytest.mark.slow
def test_figures_are_the_same_at_every_run(run_fast: Run, finished: Outcome) -> None:
    path = run_fast("trainer.max_epochs=2", figures=True).path
    for name, image in figures(finished.path).items():
        assert np.array_equal(np.asarray(image), np.asarray(figures(path)[name])), name


@pytest.mark.slow
def test_figures_show_the_last_weights(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, draw = [], Figures.draw

    def watched(self: Figures, module: VAEModule) -> dict[str, Any]:
        drawn.append({name: value.clone() for name, value in module.state_dict().items()})
        return draw(self, module)

    monkeypatch.setattr(Figures, "draw", watched)
    script_validations(monkeypatch)
    path = run_fast("trainer.max_epochs=5", figures=True).path
    assert results(path)["best/steps"] < results(path)["steps"]
    (shown,) = drawn
    assert same(weights(path, "last"), shown)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 2])
def test_figures_during_training_change_no_bit(every: int, tmp_path: Path, monkeypatch: Any) -> None:
    def draw(self: Figures, module: VAEModule) -> dict[str, Any]:
        seed_draws(module.device, "figures", 3)
        assert not module.vae.training
        return {"samples": SimpleNamespace(savefig=lambda path, **kwargs: path.write_bytes(b"x"))}

    monkeypatch.setattr(Figures, "draw", draw)
    drawing = ("+callbacks.drawn._target_=vaelab.training.Figures", f"+callbacks.drawn.every_n_epochs={every}")
    one = fit(*drawing, path=tmp_path)
    assert_same_state(one, fit())
    found = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.glob("figures/**/*.png"))
    assert found == [f"figures/epoch_{epoch}/samples.png" for epoch in range(every, 3, every)]


@pytest.mark.slow
def test_drawing_changes_no_weight_and_no_running_statistic(tmp_path: Path) -> None:
    line = ("prior=vamp", "prior.num_pseudo_inputs=5", "decoder=gaussian_optimal", "optimizer.lr=1e-4")
    drawing = ("+callbacks.drawn._target_=vaelab.training.Figures", "+callbacks.drawn.every_n_epochs=1")
    assert_same_state(fit(*line, *drawing, path=tmp_path), fit(*line))
    assert len(list(tmp_path.glob("figures/epoch_1/*.png"))) > 2


# collapse


def kl_per_dimension(path: Path) -> list[float]:
    """KL(q(z_j|x) || N(0, 1)) = (mu^2 + sigma^2 - log sigma^2 - 1) / 2, mean over the test split."""
    data, module = build(OmegaConf.merge(read_config(path), {"runtime": {"data_dir": "nowhere"}}))
    module.load_state_dict(weights(path))
    module.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        q = module.vae.encode(data.draw("test", torch.arange(len(data.split["test"]))))
    kl = (q.mean**2 + q.variance - q.variance.log() - 1) / 2
    return kl.mean(0).tolist()


def warned(outcome: Outcome) -> list[list[int]]:
    """The dimensions that each warning names."""
    lines = [line for line in outcome.err.splitlines() if "posterior collapse" in line]
    return [[int(number) for number in line.rpartition(": ")[2].split(", ")] for line in lines]


@pytest.mark.slow
def test_collapse_is_warned_of_once(run_fast: Run) -> None:
    outcome = run_fast("objective.beta=1000", "trainer.max_epochs=4", "optimizer.lr=0.01", "latent_dim=3")
    assert max(kl_per_dimension(outcome.path)) < 0.01
    assert warned(outcome) == [[0, 1, 2]]
    assert "3 of 3 latent dimensions" in outcome.err
    assert "posterior collapse" in (outcome.path / "train.log").read_text()


def test_no_warning_where_every_dimension_is_alive(finished: Outcome) -> None:
    assert min(kl_per_dimension(finished.path)) > 0.02
    assert "collapse" not in finished.err


@pytest.mark.slow
def test_only_the_dimensions_below_the_threshold_are_named(run_fast: Run) -> None:
    model = ("latent_dim=4", "trainer.max_epochs=3", "seed=5")
    alive = run_fast(*model)
    kl = sorted(kl_per_dimension(alive.path))
    threshold = (kl[1] + kl[2]) / 2
    assert kl[1] < 0.5 * threshold  # the threshold tells them apart, whatever pixels are drawn
    again = run_fast(*model, "rerun=true", f"+callbacks.collapse.threshold={threshold:.5f}")
    found = kl_per_dimension(again.path)
    assert warned(again) == [[j for j, value in enumerate(found) if value < threshold]]
    assert len(warned(again)[0]) == 2


# progress


@pytest.mark.slow
def test_on_a_terminal_a_bar_counts_all_steps_and_shows_the_bounds(run_fast: Run, monkeypatch: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the stream for a terminal
    outcome = run_fast("trainer.max_epochs=2")
    out = re.sub("\x1b[^A-Za-z]*[A-Za-z]", "", outcome.out)
    assert re.search(r"training .* 30/30 .* train elbo -\d+\.\d", out)
    assert f"val elbo {results(outcome.path)['val/elbo']:.1f}" in out
    assert re.search(r"testing .* 2/2", out)
    assert "step 30/30" not in out


def test_without_a_terminal_lines_tell_the_course(finished: Outcome) -> None:
    told = [line for line in finished.out.splitlines() if line.startswith("epoch")]
    bound = f"val elbo {results(finished.path)['val/elbo']:.1f}"
    assert re.fullmatch(rf"epoch 2/2  step 30/30  train elbo -\d+\.\d  {bound}", told[-1])
    assert "\x1b" not in finished.out
    logged = (finished.path / "train.log").read_text()
    assert all(line in logged for line in told)


def test_lines_are_a_second_apart_and_say_the_time_left(monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = ProgressBar()
    bar.start(SimpleNamespace(default_root_dir=tmp_path), "training", total=40, completed=10)  # pyright: ignore
    for seconds, done in ((0.5, 12), (1.0, 20), (1.5, 30), (2.5, 30)):
        now[0] = 100 + seconds
        bar.update(completed=done)
        bar.tell("step", progress.EVERY)
    bar.tell("step", 0)
    bar.stop()
    assert capsys.readouterr().out == "step 20/40  0:00:02 left\nstep 30/40  0:00:01 left\n"


def test_one_of_several_runs_only_logs_its_course(monkeypatch: Any, capsys: Any, caplog: Any, tmp_path: Path) -> None:
    bar = ProgressBar()
    bar.silent = True
    bar.start(SimpleNamespace(default_root_dir=tmp_path), "training", total=4)  # pyright: ignore
    bar.update(completed=4)
    with caplog.at_level("INFO"):
        bar.tell("step", 0)
    bar.stop()
    assert capsys.readouterr().out == ""
    assert "step 4/4" in caplog.text


@pytest.mark.slow
def test_the_lines_know_the_limit_in_steps(run_fast: Run) -> None:
    run_fast("trainer.max_epochs=2", "trainer.max_steps=18")
    out = run_fast("trainer.max_epochs=2", "trainer.max_steps=20").out
    assert "20/20" in out


def test_without_the_bar_nothing_but_the_table_is_printed(run_fast: Run) -> None:
    outcome = run_fast("~callbacks.progress")
    assert "training " not in outcome.out.replace("training samples seen", "")
    assert "ELBO" in outcome.out
    assert outcome.err == ""
