"""Dashboards as code: their specifications name what runs really log, and nothing is sent unless asked for."""

import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from tests.helpers.commands import Run, fast, run_main
from tests.helpers.pages import commands_of
from tests.runs.test_loggers import Read, only
from vaelab import dashboard, train
from vaelab.reporting import wandb_workspace as workspaces
from vaelab.reporting.wandb_workspace import LoggedSweep
from vaelab.runs.tracking.wandb_runs import at

MASS, DENSITY = "digits-binary-dynamic-K2", "digits-unit-K2"
CLASS = {"bernoulli": "vaelab.heads.Bernoulli", "gaussian": "vaelab.heads.DiagonalGaussian"}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep over two decoders, trained for a moment; for reading only, but for its dashboards."""
    cwd = tmp_path_factory.mktemp("swept")
    line = ("-m", "decoder=bernoulli,gaussian", "logger=wandb", "logger.project=mine", "sweep.name=look")
    run_main(train.main, cwd, *fast(*line, figures=True))
    run_main(dashboard.main, cwd, "sweep=logs/sweeps/look")
    return cwd / "logs" / "sweeps" / "look"


@pytest.fixture(scope="module")
def reads(swept: Path) -> dict[str, Read]:
    """What W&B has of each of its runs, by decoder."""
    found = {name: only(path) for name in CLASS for path in swept.glob(f"*{name}*")}
    assert len(found) == 2
    return found


@pytest.fixture
def run_dashboard(tmp_path: Path) -> Run:
    return partial(run_main, dashboard.main, tmp_path)


@pytest.fixture
def copied_sweep(swept: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(swept, tmp_path / "copy", ignore=shutil.ignore_patterns("*.json.lock")))


def specification(swept: Path, name: str) -> Any:
    return json.loads((swept / f"{name}.json").read_text())


def nodes(spec: Any, key: str) -> Iterator[Any]:
    """All values that stand at a key, anywhere inside."""
    if isinstance(spec, dict):
        yield from [spec[key]] if key in spec else []
        for value in spec.values():
            yield from nodes(value, key)
    elif isinstance(spec, list):
        for value in spec:
            yield from nodes(value, key)


def panels(spec: Any, kind: str) -> list[dict[str, Any]]:
    found = [panel for group in nodes(spec, "panels") if isinstance(group, list) for panel in group]
    return [panel["config"] for panel in found if panel.get("viewType") == kind]


BOTH = pytest.mark.parametrize("name", ["workspace", "dashboard-report"])


# what is named exists


@BOTH
def test_curves_are_of_what_runs_log_over_samples_seen(name: str, swept: Path, reads: dict[str, Read]) -> None:
    plots = panels(specification(swept, name), "Run History Line Plot")
    assert plots
    for plot in plots:
        for read in reads.values():
            rows = [row for row in read.history if plot["metrics"][0] in row]
            assert len(rows) >= 2
            assert all(plot["xAxis"] in row for row in rows)
    assert {plot["xAxis"] for plot in plots} == {"samples_seen"}
    assert {metric for plot in plots for metric in plot["metrics"]} == {"val/elbo"}


@BOTH
def test_accessors_are_of_what_runs_have(name: str, swept: Path, reads: dict[str, Read]) -> None:
    spec = specification(swept, name)
    scatters, coordinates = panels(spec, "Scatter Plot"), panels(spec, "Parallel Coordinates Plot")
    named = {scatter[axis] for scatter in scatters for axis in ("xAxis", "yAxis")}
    named |= {column["accessor"] for plot in coordinates for column in plot["columns"]}
    choices = {"latent_dim", "seed", "decoder.head._target_"}
    for accessor in named:
        section, key = accessor.split(":", 1)
        if section == "config":
            assert ".value" in key
            choices.discard(key.replace(".value", ""))
            assert all(at(read.config, key.replace(".value", "")) is not None for read in reads.values())
        else:
            assert section == "summary"
            having = [decoder for decoder, read in reads.items() if key in read.summary]
            own = [decoder for decoder, mine in (("bernoulli", MASS), ("gaussian", DENSITY)) if mine in key]
            assert having == (own or list(reads)), key
    assert not choices
    assert {"summary:test/kl", "summary:test/active_units", f"summary:within/{MASS}/test/log_likelihood"} <= named


@BOTH
def test_bars_and_groups_are_of_what_runs_have(name: str, swept: Path, reads: dict[str, Read]) -> None:
    spec = specification(swept, name)
    bars = [metric for bar in panels(spec, "Bar Chart") for metric in bar["metrics"]]
    assert bars == [f"within/{protocol}/test/log_likelihood" for protocol in (MASS, DENSITY)]
    assert all(any(bar in read.summary for read in reads.values()) for bar in bars)
    grouped = {plot["groupBy"] for plot in panels(spec, "Run History Line Plot") if "groupBy" in plot}
    assert grouped == {"decoder.value.head._target_"}
    assert {decoder: at(read.config, workspaces.DECODER) for decoder, read in reads.items()} == CLASS


@BOTH
def test_pictures_are_those_that_runs_log(name: str, swept: Path, reads: dict[str, Read]) -> None:
    keys = {key for panel in panels(specification(swept, name), "Media Browser") for key in panel["mediaKeys"]}
    for read in reads.values():
        logged = {name.split(".")[0] for row in read.history for name in row if name.startswith("figures/")}
        assert keys == logged
    assert "figures/reconstructions" in keys


# what is shown


def test_a_mass_and_a_density_share_no_panel_of_log_likelihoods(swept: Path) -> None:
    for name in ("workspace", "dashboard-report"):
        spec = specification(swept, name)
        for kind in ("Scatter Plot", "Bar Chart", "Parallel Coordinates Plot"):
            texts = [json.dumps(panel) for panel in panels(spec, kind)]
            assert [MASS in text for text in texts] == [DENSITY not in text for text in texts] == [True, False]
            assert not any('"summary:test/log_likelihood' in text or '"test/log_likelihood"' in text for text in texts)


def test_the_workspace_has_a_section_for_each_protocol(swept: Path) -> None:
    spec = specification(swept, "workspace")
    (sections,) = nodes(spec, "sections")
    assert [section["name"] for section in sections] == [
        *("curves", f"log p(x): {MASS}", f"log p(x): {DENSITY}", "pictures")
    ]
    assert all(section["isOpen"] for section in sections)
    assert (spec["entity"], spec["project"], spec["displayName"]) == ("", "mine", "sweep look")


def test_only_the_runs_of_the_sweep_are_shown(swept: Path, reads: dict[str, Read]) -> None:
    in_group = {"key": {"section": "run", "name": "group"}, "op": "=", "value": "look", "disabled": False}
    (runs,) = specification(swept, "workspace")["spec"]["section"]["runSets"]
    assert runs["filters"]["filters"] == [in_group]
    assert {read.run["run_group"] for read in reads.values()} == {"look"}
    mass, density, everything = nodes(specification(swept, "dashboard-report"), "runSets")
    assert everything[0]["filters"]["filters"] == [in_group]
    for (shown,), decoder in ((mass, "bernoulli"), (density, "gaussian")):
        first, second = shown["filters"]["filters"]
        assert first == in_group
        assert second["key"] == {"section": "run", "name": "name"}  # which is W&B's id
        assert (second["op"], second["value"]) == ("IN", [reads[decoder].run["run_id"]])


def test_each_decoder_has_a_colour(swept: Path, reads: dict[str, Read]) -> None:
    ids = [reads[decoder].run["run_id"] for decoder in CLASS]
    for name in ("workspace", "dashboard-report"):
        for colours in nodes(specification(swept, name), "customRunColors"):
            assert [colours[run] for run in ids] == list(workspaces.COLOURS[:2])


def test_all_runs_of_a_larger_sweep_are_shown(swept: Path) -> None:
    sweep = LoggedSweep.read(swept)
    assert workspaces.most_runs(sweep) == 10
    assert workspaces.most_runs(replace(sweep, jobs=[*sweep.jobs] * 20)) == 40


def test_a_job_that_is_not_done_has_curves_alone(copied_sweep: Path, run_dashboard: Run) -> None:
    for file in copied_sweep.glob("*gaussian*/metrics.json"):
        file.unlink()
    run_dashboard(f"sweep={copied_sweep}")
    spec = specification(copied_sweep, "workspace")
    assert len(panels(spec, "Scatter Plot")) == 1
    for file in copied_sweep.glob("*/metrics.json"):
        file.unlink()
    run_dashboard(f"sweep={copied_sweep}")
    assert not panels(specification(copied_sweep, "workspace"), "Scatter Plot")
    assert panels(specification(copied_sweep, "workspace"), "Run History Line Plot")


PLAIN = ["look", "a b", "1", "None", "and", "-x.y_z"]
HOSTILE = ["it's", 'a "b"', "a and Metric('x') == 1", "a\\b", "ü 🎉", "a=b,c", "${x}", "<script>", "[1, 2]", ""]


@pytest.mark.parametrize("group", [*PLAIN, *HOSTILE, "x" * 200])
def test_a_sweep_may_have_any_name(group: str, swept: Path) -> None:
    sweep = replace(LoggedSweep.read(swept), group=group)
    named = ("group", group) if group not in HOSTILE else ("name", [job.status["run_id"] for job in sweep.jobs])
    for made in (workspaces.workspace(sweep), workspaces.report(sweep)):
        for shown in nodes(workspaces.specification(made), "runSets"):
            first = shown[0]["filters"]["filters"][0]
            assert (first["key"]["name"], first["value"]) == named


def test_place_and_group_can_be_chosen(copied_sweep: Path, run_dashboard: Run) -> None:
    outcome = run_dashboard(f"sweep={copied_sweep}", "entity=us", "project=ours", "group=look")
    spec = specification(copied_sweep, "workspace")
    assert (spec["entity"], spec["project"]) == ("us", "ours")
    report = specification(copied_sweep, "dashboard-report")
    assert report["project"] == {"name": "ours", "entityName": "us"}
    assert [next(nodes(spec, "filters"))["filters"][0]["value"]] == ["look"]
    files = ("workspace", "dashboard-report")
    assert outcome.out.splitlines() == [f"written: copy/{name}.json" for name in files]
    assert outcome.err == ""


# what is refused


def test_jobs_of_two_projects_are_refused(copied_sweep: Path, run_dashboard: Run) -> None:
    (config,) = copied_sweep.glob("*gaussian*/config.yaml")
    config.write_text(config.read_text().replace("project: mine", "project: theirs"))
    err = run_dashboard(f"sweep={copied_sweep}", code=1).err
    assert err == f"vaelab: {copied_sweep} has jobs in more than one project of W&B (mine, theirs): type project=\n"


@pytest.mark.parametrize("what", ["nothing", "a run", "no W&B"])
def test_what_is_no_sweep_that_wandb_knows_is_refused(what: str, copied_sweep: Path, run_dashboard: Run) -> None:
    path = copied_sweep
    if what == "nothing":
        path = copied_sweep / "nothing"
    elif what == "a run":
        (path,) = copied_sweep.glob("*gaussian*")
    else:
        for config in copied_sweep.glob("*/config.yaml"):
            config.write_text(config.read_text().replace("vaelab.runs.tracking.wandb", "vaelab.runs.tracking.csv"))
    (line,) = run_dashboard(f"sweep={path}", code=1).err.splitlines()
    assert line.startswith(f"vaelab: {path} has no job that W&B knows: type sweep=logs/sweeps/NAME")
    assert what != "nothing" or not path.exists()


def test_a_sweep_must_be_named(run_dashboard: Run) -> None:
    (line,) = run_dashboard(code=2).err.splitlines()
    assert "sweep" in line


# saving


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without an account, whose every attempt to reach W&B is an error."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))

    def reached(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("W&B was asked")

    monkeypatch.setattr(wandb, "Api", reached)


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (None, "save=true needs a W&B account, and no key is known here: type wandb login first"),
        ("offline", "save=true needs W&B, and WANDB_MODE=offline keeps it away: unset it"),
    ],
)
def test_saving_needs_a_login(
    mode: str | None, told: str, copied_sweep: Path, run_dashboard: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    (copied_sweep / "workspace.json").unlink()
    assert run_dashboard(f"sweep={copied_sweep}", "save=true", code=1).err == f"vaelab: {told}\n"
    assert not (copied_sweep / "workspace.json").exists()


@pytest.mark.usefixtures("nobody")
def test_nothing_is_sent_unless_asked_for(copied_sweep: Path, run_dashboard: Run) -> None:
    run_dashboard(f"sweep={copied_sweep}")


class Account:
    default_entity = "me"


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was saved, in place of W&B."""
    found: list[Any] = []

    def save(self: Any) -> Any:
        found.append(self)
        return self

    monkeypatch.setattr(wandb, "login", lambda **kwargs: True)
    monkeypatch.setattr(wandb, "Api", Account)
    for kind in (ws.Workspace, wr.Report):
        monkeypatch.setattr(kind, "save", save)
        monkeypatch.setattr(kind, "url", f"https://example.org/{kind.__name__}")
    return found


def test_saving_saves_both_under_the_users_own_account(
    copied_sweep: Path, run_dashboard: Run, saved: list[Any]
) -> None:
    outcome = run_dashboard(f"sweep={copied_sweep}", "save=true")
    workspace, report = saved
    assert isinstance(workspace, ws.Workspace)
    assert isinstance(report, wr.Report)
    assert (workspace.entity, report.entity) == ("me", "me")
    assert outcome.out.splitlines()[2:] == [f"saved: https://example.org/{kind}" for kind in ("Workspace", "Report")]
    assert outcome.err == ""


def test_a_wandb_that_refuses_is_one_line(
    copied_sweep: Path, run_dashboard: Run, saved: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Any) -> None:
        raise ValueError("project not\nfound")

    monkeypatch.setattr(wr.Report, "save", refused)
    err = run_dashboard(f"sweep={copied_sweep}", "save=true", code=1).err
    assert err == "vaelab: W&B did not take the dashboards: project not found\n"
    assert (copied_sweep / "workspace.json").exists()


def test_the_readmes_command_runs(copied_sweep: Path, run_dashboard: Run) -> None:
    commands = commands_of("dashboard")
    assert commands
    for command in commands:
        run_dashboard(*shlex.split(command.replace("logs/sweeps/NAME", str(copied_sweep))))
