"""What the README shows is what happens: its commands run, its files work."""

import re
import shlex

import numpy as np
import pytest

from tests.helpers.commands import ROOT, run_main
from vaelab import evaluate, export, report

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
LINES = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]
SECOND = {"evaluate": evaluate.main, "export": export.main}
QUICK = ("trainer.max_steps=2", "estimator.num_samples=1", "logger=none", "hidden_features=8")


def commands_of(entry_point):
    start = f"python -m vaelab.{entry_point} "
    return [line.removeprefix(start) for line in LINES if line.startswith(start)]


def write_files_shown(folder):
    """Writes the blocks that begin with a comment of their path."""
    for language, block in BLOCKS:
        path = re.match(r"# (\S+\.(?:py|yaml))\n", block)
        if language in ("python", "yaml") and path:
            (folder / path[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / path[1]).write_text(block)


@pytest.mark.parametrize(
    "command",
    [  # the experiments run a few steps in the tests of the configurations
        pytest.param(command, marks=[pytest.mark.slow] if re.search("experiment=|sweep=|-m ", command) else [])
        for command in commands_of("train")
    ],
)
def test_training_commands_run(command, run_train, tmp_path, request, monkeypatch):
    arguments = shlex.split(command)
    if re.search(r"=(mnist|frey_face|aevb_\w+)\b", command):
        request.getfixturevalue("data_dir")
    if "data=array" in arguments:
        (tmp_path / "data").mkdir()
        np.save(tmp_path / "data" / "mine.npy", np.arange(20 * 5 * 4).reshape(20, 5, 4) % 256)
        monkeypatch.delenv("VAELAB_DATA_DIR", raising=False)
    write_files_shown(tmp_path)
    given = {argument.split("=")[0] for argument in arguments}
    # figures are drawn where the data are the user's own; other tests draw those of the other sets
    without = [] if "data=array" in arguments else ["~callbacks.figures"]
    run_train(*arguments, *without, *(override for override in QUICK if override.split("=")[0] not in given))


@pytest.mark.parametrize(
    ("main", "command"),
    [(main, command) for name, main in SECOND.items() for command in commands_of(name)],
)
def test_commands_for_a_run_folder_run(main, command, copied, tmp_path):
    run_main(main, tmp_path, *shlex.split(command.replace("logs/runs/NAME", str(copied))), *quickly(command))


@pytest.mark.parametrize("command", commands_of("report"))
def test_commands_for_a_sweep_run(command, copied, tmp_path):
    arguments = shlex.split(command.replace("logs/sweeps/NAME", str(copied.parent)))
    assert "report.html" in run_main(report.main, tmp_path, *arguments).out


EVALUATION = re.findall(r"python -m vaelab.evaluate ([^#\n]*)", (ROOT / "docs" / "evaluation.md").read_text())
QUICKLY = {
    "ais": ("num_temperatures=3", "num_chains=2"),
    "hmc": ("num_burn_in=2", "num_draws=5", "num_chains=20"),
}


def quickly(command):
    """What makes the estimators of a command quick."""
    for name, settings in QUICKLY.items():
        if f"estimator={name}" in command:
            return [f"estimator.{setting}" for setting in settings]
    every = [f"estimator.{name}.{setting}" for name, settings in QUICKLY.items() for setting in settings]
    return every if "estimator=all" in command else []


@pytest.mark.parametrize("command", [line for line in EVALUATION if "devices" not in line])
def test_commands_of_the_evaluations_page_run(command, copied, run_fast, tmp_path):
    density = any(word in command for word in ("dequantizations", "measure"))
    path = run_fast("decoder=gaussian").path if density else copied
    arguments = shlex.split(command.replace("logs/runs/NAME", str(path)))
    run_main(evaluate.main, tmp_path, *arguments, *quickly(command))


SWEEPS = re.findall(r"^python -m vaelab.train (.*)$", (ROOT / "docs" / "sweeps.md").read_text(), flags=re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("command", dict.fromkeys(line for line in SWEEPS if not re.search("slurm|ray", line)))
def test_commands_of_the_sweeps_page_run(command, run_train):
    few = {"devices=2": "accelerator=cpu", "optuna": "hydra.sweeper.n_trials=2"}
    quick = [*QUICK, "data=digits", *(override for word, override in few.items() if word in command)]
    arguments = [argument for argument in shlex.split(command) if not argument.startswith(("data=", "-m"))]
    out = run_train("-m", *dict.fromkeys([*arguments, "~callbacks.figures", *quick])).out
    assert "sweep folder: logs/sweeps/" in out


def test_no_page_has_a_gap_left_to_fill():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert "@@" not in page.read_text(), page.name


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    shown = {line.split()[1] for line in LINES if line.startswith("make ")}
    assert shown
    assert shown <= targets


def test_files_that_it_links_to_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
