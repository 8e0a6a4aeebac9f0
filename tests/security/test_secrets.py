"""No key, secret environment variable or home folder in anything that a run writes or prints."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.commands import FAILURE, USAGE, Outcome, Run, fast, run_main
from vaelab import evaluate, train
from vaelab.runs import cli
from vaelab.training import VAEModule

HOME = "jane-of-sentinels"
SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "AWS_SECRET_ACCESS_KEY": "aws/sentinel+secret==",
    "MY_TOKEN": "sentinel-token-of-mine",
}
IN_NETRC = "89abcdef0123456789abcdef0123456789abcdef"
IN_REMOTE = "sentinel-of-remote"
SENTINELS = [sentinel.encode() for sentinel in (*SECRETS.values(), IN_NETRC, IN_REMOTE, HOME)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with a repository in it, whose remote has a password."""
    home = tmp_path / HOME
    (home / "project").mkdir(parents=True)
    (home / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {IN_NETRC}\n")
    if shutil.which("git"):
        for command in ("init -q", f"remote add origin https://user:{IN_REMOTE}@host.example/x.git"):
            subprocess.run(["git", *command.split()], cwd=home / "project", check=True)
    return home


def keep_secrets(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the secrets into the environment of this process."""
    for name, value in (SECRETS | {"HOME": str(home)}).items():
        monkeypatch.setenv(name, value)


def run_below(home: Path, *command: str, code: int = 0, **environment: str) -> Outcome:
    """Runs Python in the project below `home`, in a process that has the secrets in its environment."""
    known = os.environ | {"HOME": str(home)} | SECRETS | environment
    known |= {"MPLCONFIGDIR": str(home.parent / "matplotlib"), "OMP_NUM_THREADS": "1"}
    cwd = home / "project"
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=known, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr, cwd)


def everything(outcome: Outcome) -> Iterator[tuple[str, bytes]]:
    """What was printed, the name of each file, what it holds, what is packed in it, and where each link leads."""
    yield from (("stdout", outcome.out.encode()), ("stderr", outcome.err.encode()))
    for path in sorted(outcome.cwd.rglob("*")):
        name = str(path.relative_to(outcome.cwd))
        if name.split("/")[0] == ".git":
            continue
        yield f"name of {name}", name.encode()
        if path.is_symlink():
            yield f"target of {name}", os.readlink(path).encode()
        elif path.is_file():
            yield from unpacked(name, path.read_bytes())


def unpacked(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield name, content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield f"{name}/{member}", member.encode() + archive.read(member)


def assert_no_sentinel(outcome: Outcome, *files: str) -> None:
    """Searches everything; `files` are ends of names that must be among it, so that the search is no empty one."""
    found = dict(everything(outcome))
    for end in files:
        assert any(name.endswith(end) for name in found), f"no {end} in {sorted(found)}"
    held = [(name, sentinel) for name, content in found.items() for sentinel in SENTINELS if sentinel in content]
    assert not held


# what a user may put into the configuration, knowingly or not
ON_PURPOSE = (
    "+note=${oc.env:AWS_SECRET_ACCESS_KEY} in ${oc.env:HOME}/x",
    "+deep={er: [{a: '${oc.env:MY_TOKEN}'}]}",
    "data_dir='${oc.env:HOME}/data ${note} ${deep.er[0].a}'",  # else nothing would read the two, which is refused
)
OF_WANDB = (
    "+logger.tags=[a,'${oc.env:MY_TOKEN}']",
    "+logger.notes='${oc.env:WANDB_API_KEY} ${oc.env:HOME}'",
    "logger.project='${oc.env:MY_TOKEN}'",
)
RECORDS = ("config.yaml", "record.json", "status.json", "metrics.json")
WRITTEN = (*RECORDS, "train.log", "last.ckpt", "last.ckpt/archive/data.pkl")


def train_below(home: Path, *overrides: str, figures: bool = False, **environment: str) -> Outcome:
    named = f"{'sweep.' if '-m' in overrides else ''}name={home}/of mine"
    arguments = fast(*overrides, *ON_PURPOSE, named, figures=figures)
    return run_below(home, "-m", "vaelab.train", *arguments, **environment)


@pytest.mark.slow
def test_a_run_writes_and_prints_no_secret(home: Path) -> None:
    outcome = train_below(home, "-m", "latent_dim=2,3", "seeds=2", "logger=tensorboard")
    assert_no_sentinel(outcome, *WRITTEN, "tensorboard", "sweep.json", "curves.csv")
    configs = list(outcome.cwd.glob("logs/**/config.yaml"))
    assert len(configs) == 4
    for config in configs:
        stored = yaml.safe_load(config.read_text())
        assert stored["note"] == "[AWS_SECRET_ACCESS_KEY] in ~/x"
        assert stored["deep"] == {"er": [{"a": "[MY_TOKEN]"}]}


@pytest.mark.slow
def test_w_and_b_stores_figures_and_nothing_of_the_host(home: Path) -> None:
    outcome = train_below(home, "logger=wandb", *OF_WANDB, figures=True, WANDB_DEBUG="true")
    assert_no_sentinel(outcome, *WRITTEN, ".wandb", "debug.log", "debug-internal.log", "requirements.txt", ".png")
    assert outcome.err.splitlines() == [
        "vaelab: WANDB_DEBUG is ignored, because it makes W&B write the API key into the run folder"
    ]
    (log,) = outcome.cwd.glob("logs/runs/*/wandb/offline-run-*/logs/debug-internal.log")
    assert '"level":"DEBUG"' not in log.read_text()
    (file,) = outcome.cwd.glob("logs/runs/*/wandb/offline-run-*/*.wandb")
    read = run_below(home, "-m", "wandb", "leet", "inspect", "--json", str(file))
    records = [json.loads(line) for line in read.out.splitlines()]
    kinds = {record["type"] for record in records}
    assert kinds >= {"run", "history", "summary", "stats", "files"}
    assert not kinds & {"environment", "output", "output_raw"}
    (run,) = [record["run"] for record in records if record["type"] == "run"]
    assert run["project"] == "[MY_TOKEN]"
    assert run["tags"] == ["Digits", "Bernoulli", "StandardNormal", "ELBO", "a", "[MY_TOKEN]"]
    assert run["notes"] == "[WANDB_API_KEY] ~"
    assert "git" not in run


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [("logger=wandb",), ("seeds=2", "stacked=true")])
def test_the_message_of_a_bug_is_redacted_everywhere(
    overrides: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_secrets(home, monkeypatch)
    token = SECRETS["MY_TOKEN"]

    def fails(*args: Any) -> None:
        raise ZeroDivisionError(f"{token}\n in {os.getcwd()}: \x1b[31m{token}")

    monkeypatch.setattr(VAEModule, "test_step", fails)
    outcome = run_main(train.main, home / "project", *fast(*overrides), code=1)
    assert_no_sentinel(outcome, "train.log", "status.json", "last.ckpt")
    for log in outcome.cwd.glob("logs/runs/*/train.log"):
        assert "ZeroDivisionError: [MY_TOKEN]\n in ~/project: \\x1b[31m[MY_TOKEN]" in log.read_text()
        assert json.loads(log.with_name("status.json").read_text())["error"] == "ZeroDivisionError: [MY_TOKEN]"
    if "seeds=2" not in overrides:
        assert outcome.err.count("Traceback") == 1
        assert outcome.err.endswith("ZeroDivisionError: [MY_TOKEN]\n in ~/project: \\x1b[31m[MY_TOKEN]\n")
    else:
        assert "ZeroDivisionError" in outcome.err


KILLED = """
import os
from vaelab import train
from vaelab.training.lightning_module import VAEModule

VAEModule.test_step = lambda *args: os.kill(os.getpid(), 9)
train.main()
"""


@pytest.mark.exhaustive
def test_a_killed_run_leaves_no_secret(home: Path) -> None:
    outcome = run_below(home, "-c", KILLED, *fast("logger=wandb", *OF_WANDB, *ON_PURPOSE), code=-9)
    assert_no_sentinel(outcome, "train.log", "status.json", "last.ckpt", ".wandb", "debug.log", "debug-internal.log")


@pytest.mark.slow
def test_the_logs_of_w_and_b_are_redacted(run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRETS["MY_TOKEN"])

    def telling(*args: Any) -> None:
        (log,) = tmp_path.glob("logs/runs/*/wandb/offline-run-*/logs/debug.log")
        log.write_text(f"uploading with {SECRETS['MY_TOKEN']}")
        raise ZeroDivisionError

    monkeypatch.setattr(VAEModule, "test_step", telling)
    run_fast("logger=wandb", code=1)
    (log,) = tmp_path.glob("logs/runs/*/wandb/offline-run-*/logs/debug.log")
    assert log.read_text() == "uploading with [MY_TOKEN]"


@pytest.mark.parametrize("wants_traceback", [False, True], ids=["line", "traceback"])
@pytest.mark.parametrize(
    ("main", "line", "words"),
    [
        (train.main, "hydra.run.dir={home}/a_file/below", "~/a_file/below"),
        (train.main, "decoder.head._target_=sentinel-token-of-mine.Head", "[MY_TOKEN].Head"),
        (evaluate.main, "run_dir={home}/nowhere", "~/nowhere is not a run folder"),
    ],
)
def test_a_refusal_is_redacted(
    main: Any, line: str, words: str, wants_traceback: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_secrets(home, monkeypatch)
    monkeypatch.setattr(cli, "WANTS_TRACEBACK", wants_traceback)  # HYDRA_FULL_ERROR=1
    (home / "a_file").write_text("not a folder")
    arguments = line.format(home=home).split()
    code = USAGE if "_target_" in line and not wants_traceback else FAILURE
    outcome = run_main(main, home, *(fast(*arguments) if main is train.main else arguments), code=code)
    assert words in outcome.err
    assert not [sentinel for sentinel in SENTINELS if sentinel in outcome.err.encode()]
    assert ("Traceback" in outcome.err) == wants_traceback


def test_no_file_of_a_run_folder_steers_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text('{format_version: "\\e]0;owned\\a\\e[2J\\u202e"}')
    outcome = run_main(evaluate.main, tmp_path, "run_dir=.", code=1)
    assert r"\x1b]0;owned\x07\x1b[2J\u202e" in outcome.err
    assert outcome.err.removesuffix("\n").isprintable()


def test_a_printed_configuration_is_redacted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_secrets(home, monkeypatch)
    outcome = run_main(train.main, home, *fast(*ON_PURPOSE), "--cfg", "job", "--resolve")
    assert "note: [AWS_SECRET_ACCESS_KEY] in ~/x" in outcome.out
    assert not [sentinel for sentinel in SENTINELS if sentinel in outcome.out.encode()]


def test_a_message_of_hydra_is_redacted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    outcome = run_main(train.main, home, *fast("-m", "latent_dim=0,2", f"name={home}/x"), code=2)
    assert "latent_dim" in outcome.err
    assert HOME not in outcome.out + outcome.err
