"""`python -m vaelab.dashboard`: the dashboards name only what runs log, and are uploaded only on request."""

import json
import shlex
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from tests.helpers.commands import Run, assert_one_line, run_main
from tests.helpers.pages import commands_of
from tests.helpers.wandb_files import Read, only
from vaelab import dashboard
from vaelab.reporting import wandb_workspace as workspaces
from vaelab.reporting.wandb_workspace import LoggedSweep
from vaelab.runs.tracking.wandb_runs import at, decoder_of

MASS, DENSITY = "digits-binary-dynamic-importance-K2-", "digits-unit-importance-K2-"
DECODERS = ("bernoulli", "gaussian")


@pytest.fixture(scope="module")
def reads(swept: Path) -> dict[str, Read]:
    """Decoder → the W&B run of its job."""
    return {name: only(path) for name in DECODERS for path in swept.glob(f"*{name}*")}


@pytest.fixture
def run_dashboard(tmp_path: Path) -> Run:
    return partial(run_main, dashboard.main, tmp_path)


@pytest.fixture
def copied_sweep(swept: Path, tmp_path: Path) -> Path:
    """A copy of the sweep for tests that change it."""
    return Path(shutil.copytree(swept, tmp_path / "copy", ignore=shutil.ignore_patterns("*.json.lock")))


def specification(swept: Path, name: str) -> Any:
    return json.loads((swept / f"{name}.json").read_text())


def nodes(spec: Any, key: str) -> Iterator[Any]:
    """Yield every value of a key, at any depth."""
    if isinstance(spec, dict):
        yield from [spec[key]] if key in spec else []
        spec = list(spec.values())
    if isinstance(spec, list):
        for value in spec:
            yield from nodes(value, key)


def panels(spec: Any, kind: str) -> list[dict[str, Any]]:
    groups = [group for group in nodes(spec, "panels") if isinstance(group, list)]
    return [panel["config"] for group in groups for panel in group if panel.get("viewType") == kind]


BOTH = pytest.mark.parametrize("name", ["workspace", "dashboard-report"])


@pytest.mark.slow
@BOTH
def test_curves_plot_a_logged_bound_over_samples_seen(name: str, swept: Path, reads: dict[str, Read]) -> None:
    plots = panels(specification(swept, name), "Run History Line Plot")
    assert {(plot["xAxis"], *plot["metrics"]) for plot in plots} == {("samples_seen", "val/elbo")}
    for read in reads.values():
        assert len([row for row in read.history if {"val/elbo", "samples_seen"} <= row.keys()]) >= 2
    assert {plot["groupBy"] for plot in plots if "groupBy" in plot} == {"runtime.value.choices.decoder"}
    assert [at(read.config, workspaces.DECODER) for read in reads.values()] == list(DECODERS)


@pytest.mark.slow
@BOTH
def test_plots_of_results_name_what_runs_have(name: str, swept: Path, reads: dict[str, Read]) -> None:
    spec = specification(swept, name)
    scatters, coordinates = panels(spec, "Scatter Plot"), panels(spec, "Parallel Coordinates Plot")
    named = {scatter[axis] for scatter in scatters for axis in ("xAxis", "yAxis")}
    named |= {column["accessor"] for plot in coordinates for column in plot["columns"]}
    settings = {key.removeprefix("config:").replace(".value", "") for key in named if ".value" in key}
    assert settings == {"latent_dim", "seed", "runtime.choices.decoder"}
    assert all(at(read.config, setting) is not None for read in reads.values() for setting in settings)
    results = {key.removeprefix("summary:") for key in named if ".value" not in key}
    estimates = sorted(results - {"test/kl", "test/active_units"})
    for decoder, protocol, estimate in zip(DECODERS, (MASS, DENSITY), estimates, strict=True):
        assert estimate.startswith(f"within/{protocol}")
        assert results & reads[decoder].summary.keys() == {"test/kl", "test/active_units", estimate}
    assert [bar["metrics"] for bar in panels(spec, "Bar Chart")] == [[estimate] for estimate in estimates]


@pytest.mark.slow
@BOTH
def test_pictures_are_those_that_runs_log(name: str, swept: Path, reads: dict[str, Read]) -> None:
    keys = {key for panel in panels(specification(swept, name), "Media Browser") for key in panel["mediaKeys"]}
    for read in reads.values():
        assert keys == {name.split(".")[0] for row in read.history for name in row if name.startswith("figures/")}
    assert "figures/reconstructions" in keys


@pytest.mark.slow
@BOTH
def test_a_mass_and_a_density_never_share_a_panel(name: str, swept: Path) -> None:
    spec = specification(swept, name)
    for kind in ("Scatter Plot", "Bar Chart", "Parallel Coordinates Plot"):
        texts = [json.dumps(panel) for panel in panels(spec, kind)]
        assert [MASS in text for text in texts] == [DENSITY not in text for text in texts] == [True, False]


@pytest.mark.slow
def test_the_workspace_has_a_section_for_each_protocol(swept: Path) -> None:
    spec = specification(swept, "workspace")
    (sections,) = nodes(spec, "sections")
    names = [section["name"] for section in sections]
    assert (names[0], names[-1]) == ("curves", "pictures")
    assert [name[:-8] for name in names[1:-1]] == [f"log p(x): {MASS}", f"log p(x): {DENSITY}"]  # without the hash
    assert all(section["isOpen"] for section in sections)
    assert (spec["entity"], spec["project"], spec["displayName"]) == ("", "mine", "sweep look")


@pytest.mark.slow
def test_dashboards_show_only_the_runs_of_the_sweep(swept: Path, reads: dict[str, Read]) -> None:
    in_group = {"key": {"section": "run", "name": "group"}, "op": "=", "value": "look", "disabled": False}
    (runs,) = specification(swept, "workspace")["spec"]["section"]["runSets"]
    assert runs["filters"]["filters"] == [in_group]
    assert {read.run["run_group"] for read in reads.values()} == {"look"}
    for (shown,), decoders in zip(
        nodes(specification(swept, "dashboard-report"), "runSets"), (["bernoulli"], ["gaussian"], DECODERS), strict=True
    ):
        first, second = shown["filters"]["filters"]
        assert first == in_group
        assert second["key"] == {"section": "run", "name": "name"}  # W&B calls a run's id its name
        assert (second["op"], second["value"]) == ("IN", [reads[decoder].run["run_id"] for decoder in decoders])


@pytest.mark.slow
@BOTH
def test_each_decoder_has_its_colour(name: str, swept: Path, reads: dict[str, Read]) -> None:
    for colours in nodes(specification(swept, name), "customRunColors"):
        assert [colours[reads[decoder].run["run_id"]] for decoder in DECODERS] == list(workspaces.COLOURS[:2])


def test_decoders_of_one_class_are_told_apart_by_their_names() -> None:
    names = ["gaussian", "gaussian_fixed", "gaussian_optimal", "gaussian_shared"]
    assert [decoder_of({"runtime": {"choices": {"decoder": name}}}) for name in names] == names
    by_hand = {"decoder": {"head": {"_target_": "mine.Head", "scale": {"_target_": "mine.Scale"}}}}
    assert decoder_of(by_hand) == "Head Scale"


@pytest.mark.slow
def test_a_job_that_is_not_done_has_curves_only(copied_sweep: Path, run_dashboard: Run) -> None:
    for file in copied_sweep.glob("*gaussian*/metrics.json"):
        file.unlink()
    run_dashboard(f"sweep={copied_sweep}")
    spec = specification(copied_sweep, "workspace")
    assert len(panels(spec, "Scatter Plot")) == 1
    assert panels(spec, "Run History Line Plot")


@pytest.mark.slow
@pytest.mark.parametrize(("group", "filtered"), [("a b-x.y_z", "a b-x.y_z"), ("it's ü", None), ("", "look")])
def test_a_filter_takes_any_name_of_a_sweep(group: str, filtered: str | None, swept: Path) -> None:
    sweep = LoggedSweep.read(swept, group=group, entity=None, project=None)
    ids = [job.status["run_id"] for job in sweep.jobs]  # if the name holds signs that mean something to W&B
    for made in (workspaces.workspace(sweep), workspaces.report(sweep)):
        for runs in nodes(workspaces.specification(made), "runSets"):
            assert runs[0]["filters"]["filters"][0]["value"] == (filtered or ids)


@pytest.mark.slow
def test_entity_project_and_group_can_be_chosen(copied_sweep: Path, run_dashboard: Run) -> None:
    outcome = run_dashboard(f"sweep={copied_sweep}", "entity=us", "project=ours", "group=look")
    spec = specification(copied_sweep, "workspace")
    assert (spec["entity"], spec["project"]) == ("us", "ours")
    assert specification(copied_sweep, "dashboard-report")["project"] == {"name": "ours", "entityName": "us"}
    assert next(nodes(spec, "filters"))["filters"][0]["value"] == "look"
    assert outcome.out.splitlines() == [f"written: copy/{name}.json" for name in ("workspace", "dashboard-report")]
    assert outcome.err == ""


@pytest.mark.slow
def test_dashboards_show_the_group_that_the_jobs_logged(copied_sweep: Path, run_dashboard: Run) -> None:
    for config in copied_sweep.glob("*/config.yaml"):
        config.write_text(config.read_text().replace("group: null", f"group: {'g' * 200}"))
    run_dashboard(f"sweep={copied_sweep}")
    (runs,) = specification(copied_sweep, "workspace")["spec"]["section"]["runSets"]
    assert len(runs["filters"]["filters"][0]["value"]) == 128


@pytest.mark.slow
def test_jobs_of_two_projects_are_refused(copied_sweep: Path, run_dashboard: Run) -> None:
    (config,) = copied_sweep.glob("*gaussian*/config.yaml")
    config.write_text(config.read_text().replace("project: mine", "project: theirs"))
    assert_one_line(run_dashboard(f"sweep={copied_sweep}", code=1), "in more than one project of W&B (mine, theirs)")


@pytest.mark.slow
def test_a_sweep_without_wandb_runs_is_refused(copied_sweep: Path, run_dashboard: Run) -> None:
    for config in copied_sweep.glob("*/config.yaml"):
        config.write_text(config.read_text().replace("vaelab.runs.tracking.wandb", "vaelab.runs.tracking.csv"))
    assert_one_line(run_dashboard(f"sweep={copied_sweep}", code=1), "has no job with a W&B run: type sweep=")
    assert_one_line(run_dashboard("sweep=missing", code=1), "missing is not a folder")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (None, "save=true needs a W&B account, and this machine has no W&B key: type wandb login first"),
        ("offline", "save=true needs W&B, and WANDB_MODE=offline prevents it: unset WANDB_MODE"),
    ],
)
def test_saving_needs_a_login(
    mode: str | None, message: str, copied_sweep: Path, run_dashboard: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(copied_sweep / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(copied_sweep / "wandb-config"))
    monkeypatch.setattr(wandb, "Api", lambda: pytest.fail("W&B was contacted"))
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    (copied_sweep / "workspace.json").unlink()
    assert_one_line(run_dashboard(f"sweep={copied_sweep}", "save=true", code=1), message)
    assert not (copied_sweep / "workspace.json").exists()


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The dashboards that were saved, which W&B never sees."""
    dashboards: list[Any] = []

    def save(self: Any) -> Any:
        dashboards.append(self)
        return self

    monkeypatch.setattr(wandb, "login", lambda **kwargs: True)
    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(default_entity="me"))
    for kind in (ws.Workspace, wr.Report):
        monkeypatch.setattr(kind, "save", save)
        monkeypatch.setattr(kind, "url", f"https://example.org/{kind.__name__}")
    return dashboards


@pytest.mark.slow
def test_both_dashboards_are_saved_to_the_users_account(
    copied_sweep: Path, run_dashboard: Run, saved: list[Any]
) -> None:
    run_dashboard(f"sweep={copied_sweep}")
    assert saved == []  # they are uploaded on request only
    outcome = run_dashboard(f"sweep={copied_sweep}", "save=true")
    assert [type(dashboard) for dashboard in saved] == [ws.Workspace, wr.Report]
    assert {dashboard.entity for dashboard in saved} == {"me"}
    assert outcome.out.splitlines()[2:] == [f"saved: https://example.org/{kind}" for kind in ("Workspace", "Report")]
    assert outcome.err == ""


@pytest.mark.slow
@pytest.mark.usefixtures("saved")
def test_a_refusal_by_wandb_is_one_line(
    copied_sweep: Path, run_dashboard: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Any) -> None:
        raise ValueError("project not\nfound")

    monkeypatch.setattr(wr.Report, "save", refused)
    err = run_dashboard(f"sweep={copied_sweep}", "save=true", code=1).err
    assert err == "vaelab: W&B did not save the dashboards: project not found\n"
    assert (copied_sweep / "workspace.json").exists()


@pytest.mark.slow
def test_the_commands_of_the_readme_run(copied_sweep: Path, run_dashboard: Run) -> None:
    commands = commands_of("dashboard")
    assert commands
    for command in commands:
        run_dashboard(*shlex.split(command.replace("logs/sweeps/NAME", str(copied_sweep))))
