"""What the README, CONTRIBUTING and `docs/` show is what happens: their commands run, their files work."""

import importlib
import re
import runpy
import shlex

import numpy as np
import pytest
from PIL import Image

from tests.helpers.choices import choices, combinations
from tests.helpers.commands import ROOT, run_main
from tests.helpers.pages import PAGES, SWEEPS_PAGE, commands_of, shell_lines, write_files_shown
from tests.helpers.sweep_folders import finished_job
from vaelab import compare, evaluate, explore, export, report
from vaelab import list as listing

QUICK = ("trainer.max_steps=2", "estimator=importance", "estimator.num_samples=1", "logger=none", "hidden_features=8")
FEW_JOBS = ("hydra.sweeper.params.latent_dim='2,5'", "hydra.sweeper.params.seed='0'")  # of sweep=latent_by_decoder
TRAIN = [  # test_conf.py runs the experiments
    command
    for command in commands_of("train")
    if command not in commands_of("train", SWEEPS_PAGE) and not command.startswith("experiment=")
]


def smaller(command: str) -> str:
    """Return the command with less to do: two seeds, and small images where the data are not what it is about."""
    images = re.sub(r"data=mnist\b", "data=digits", command) + (" data=digits" if "=conv" in command else "")
    return images.replace("seeds=4", "seeds=2")


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAIN)
def test_training_commands_run(command, run_train, tmp_path, request, monkeypatch):
    arguments = shlex.split(smaller(command))
    if "data=frey_face" in arguments:
        request.getfixturevalue("data_dir")
    if "data=array" in arguments:
        (tmp_path / "data").mkdir()
        np.save(tmp_path / "data" / "mine.npy", np.arange(20 * 5 * 4).reshape(20, 5, 4) % 256)
        np.save(tmp_path / "data" / "labels.npy", np.arange(20) % 2)
        monkeypatch.delenv("VAELAB_DATA_DIR", raising=False)
    if "Thumbnails" in command:
        write_photos(tmp_path / "data" / "photos")
        monkeypatch.delenv("VAELAB_DATA_DIR", raising=False)
    write_files_shown(tmp_path)
    given = {argument.split("=")[0] for argument in arguments}
    # figures are drawn where the data are the user's own; other tests draw those of the other sets
    without = [] if "data=array" in arguments else ["~callbacks.figures"]
    on_cpu = ["accelerator=cpu"] if "devices=" in command else []
    few_jobs = FEW_JOBS if "sweep=latent_by_decoder" in arguments else []
    quick = [override for override in QUICK if override.split("=")[0] not in given]
    run_train(*arguments, *without, *on_cpu, *few_jobs, *quick)


def write_photos(folder):
    """Write 20 JPEGs of different sizes."""
    folder.mkdir(parents=True)
    for number in range(20):
        Image.fromarray(np.full((20 + number, 30, 3), 10 * number, np.uint8)).save(folder / f"{number}.jpg")


def test_the_class_of_thumbnails_serves_scaled_pictures(tmp_path, monkeypatch):
    write_photos(tmp_path / "photos")
    write_files_shown(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    data = importlib.import_module("my_pictures").Thumbnails(data_dir=tmp_path)
    assert data.event_shape == (1, 16, 16)
    assert [len(split) for split in data.split.values()] == [16, 2, 2]


QUICKLY = {  # settings that make an estimator quick
    "ais": ("num_temperatures=3", "num_chains=2"),
    "hmc": ("num_burn_in=2", "num_draws=5", "num_chains=20"),
}


def of_few_examples(command: str) -> str:
    """Return the command without its comment, for 20 examples."""
    line = command.partition("#")[0].strip()
    return re.sub(r"limit=\d+", "limit=20", line) if "limit=" in line else f"{line} limit=20"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", dict.fromkeys(of_few_examples(line) for line in commands_of("evaluate") if "devices" not in line)
)
def test_evaluations_run(command, copied, run_fast, tmp_path):
    density = any(word in command for word in ("dequantizations", "measure"))
    path = run_fast("decoder=gaussian").path if density else copied
    arguments = shlex.split(command.replace("logs/runs/NAME", str(path)).replace("logs/sweeps/NAME", str(path.parent)))
    quick = [
        f"estimator.{name}.{setting}" if "estimator=all" in command else f"estimator.{setting}"
        for name, settings in QUICKLY.items()
        for setting in settings
        if f"estimator={name}" in command or "estimator=all" in command
    ]
    run_main(evaluate.main, tmp_path, *arguments, *quick)


@pytest.mark.slow
@pytest.mark.parametrize("command", commands_of("export"))
def test_exports_run(command, copied, tmp_path):
    run_main(export.main, tmp_path, *shlex.split(command.replace("logs/runs/NAME", str(copied))))


@pytest.mark.slow
@pytest.mark.parametrize("command", commands_of("explore"))
def test_explorations_run(command, copied, tmp_path):
    run_main(explore.main, tmp_path, *shlex.split(command.replace("logs/runs/NAME", str(copied))))


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("command", commands_of("list"))
def test_lists_run(command, tmp_path):
    assert run_main(listing.main, tmp_path, *shlex.split(command), "yes=true").out


@pytest.mark.slow
@pytest.mark.parametrize(  # those of the dashboard run in its own tests
    "command", dict.fromkeys(re.sub(r"logs/sweeps/\w+", "logs/sweeps/NAME", line) for line in commands_of("report"))
)
def test_reports_run(command, copied, tmp_path):
    arguments = shlex.split(command.replace("logs/sweeps/NAME", str(copied.parent)), comments=True)
    assert "report.html" in run_main(report.main, tmp_path, *arguments).out


@pytest.mark.slow
@pytest.mark.parametrize("command", commands_of("compare"))
def test_comparisons_run(command, tmp_path):
    for size in (5, 10):
        for seed in (0, 1):
            finished_job(tmp_path / "logs" / "sweeps" / "NAME", f"latent_dim={size}", f"seed={seed}", value=-30 + size)
    for name, seed in (("A", 0), ("B", 1)):
        job = finished_job(tmp_path / "logs" / "runs", "latent_dim=5", f"seed={seed}", value=-30)
        job.rename(job.with_name(name))
    printed = run_main(compare.main, tmp_path, *shlex.split(command, comments=True)).out
    assert "written: comparison.md and comparison.json" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [line for line in commands_of("train", SWEEPS_PAGE) if not re.search("slurm|ray", line)]
)
def test_commands_of_the_sweeps_page_run(command, run_train):
    few = {"devices=2": ["accelerator=cpu"], "optuna": ["hydra.sweeper.n_trials=2"], "latent_by_decoder": FEW_JOBS}
    quick = [*QUICK, "data=digits", *(override for word, more in few.items() if word in command for override in more)]
    count = iter((2, 1, 1))  # of the values of each list
    short = re.sub(r"\w+(,\w+)+", lambda values: ",".join(values[0].split(",")[: next(count)]), command)
    arguments = [argument for argument in shlex.split(short) if not argument.startswith(("data=", "-m"))]
    out = run_train("-m", *dict.fromkeys([*arguments, "~callbacks.figures", *quick])).out
    assert "sweep folder: logs/sweeps/" in out


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    shown = {line.split()[1] for page in PAGES for line in shell_lines(page) if line.startswith("make ")}
    assert shown
    assert shown <= targets


def test_anchors_of_links_are_headings():
    anchor = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["anchor"]
    link = re.compile(r"\]\((?!http)([^)#]*)#([^)]+)\)")
    found = {(page, *target) for page in PAGES for target in link.findall(page.read_text())}
    assert found
    for page, file, named in found:
        headings = re.findall(r"^#+ .*$", (page.parent / file if file else page).read_text(), flags=re.MULTILINE)
        assert named in map(anchor, headings), (page.name, file, named)


@pytest.mark.parametrize("group", [*combinations["GROUPS"], "data"])
def test_each_choice_has_its_row_in_the_components(group):
    page = (ROOT / "docs" / "components.md").read_text()
    rows = page.partition(f"\n| `{group}=` |")[2].partition("\n\n")[0]
    assert [name for name in choices(group) if f"\n| `{name}` |" not in rows] == []


def test_pages_are_linked_and_their_links_lead_somewhere():
    links = {(page, link) for page in PAGES for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text())}
    assert [link for page, link in links if not (page.parent / link).exists()] == []
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 200
    assert [page.name for page in PAGES if "@@" in page.read_text()] == []  # a gap left to fill
    assert [page.name for page in PAGES[1:] if f"({page.relative_to(ROOT)})" not in text] == []
