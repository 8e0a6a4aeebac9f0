"""The run folder: one folder, one run, whose identity is its scientific configuration. Idempotent and atomic."""

import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml
from filelock import AcquireReturnProxy, FileLock, Timeout

from vaelab.errors import DivergedError, ProcessError, RunFolderError
from vaelab.files import write_atomically
from vaelab.runs.configuration import RUNTIME
from vaelab.runs.folder.contents import (
    FORMAT_VERSION,
    START_OVER,
    check_same_data,
    environment,
    load_checkpoint,
    read_config,
    read_json,
    read_metrics,
    read_status,
)
from vaelab.runs.folder.identity import budget, science
from vaelab.runs.folder.log import logging_to
from vaelab.security.redaction import redact, redacted
from vaelab.signals import slurm_job

State = Literal["running", "done", "interrupted", "failed"]
OUTPUT = "output.log"  # what a job of a sweep printed, in all attempts, tracebacks included

log = logging.getLogger(__name__)


class RunFolder:
    """A folder that holds one run, and says what is left to do there. Making one reads only; `running` writes.

    Args:
        path: the folder; it need not exist.
        config: the resolved configuration as plain data.
        rerun: put a folder that stands there aside and start over.

    Raises:
        RunFolderError: the folder holds another configuration (names the first key that differs), was given more
            epochs or steps than are asked for now, or cannot be read.
    """

    def __init__(self, path: Path, config: dict[str, Any], rerun: bool = False) -> None:
        self.path = path
        self.config = config
        self.started = time.monotonic()
        self.rerun = rerun and (path / "config.yaml").exists() and not self._begun_by_this_job()
        self.samples_seen = 0  # when training goes on
        self.found: tuple[dict[str, Any], Path] | None = None  # the checkpoint that it goes on from
        self.damaged: list[Path] = []  # other checkpoints
        self.warnings: list[str] = []  # for the log, once it is open
        self._read_what_stands()

    def _begun_by_this_job(self) -> bool:
        # which SLURM has started again: it goes on, or it would start over every time
        job = slurm_job(restarted=True)
        with suppress(RunFolderError):
            return job is not None and read_json(self.path / "status.json").get("slurm_job") == job
        return False

    def _read_what_stands(self) -> None:
        here = (self.path / "config.yaml").exists() and not self.rerun
        self.stored = read_config(self.path) if here else None
        if self.stored is not None:
            self._check_identity(self.stored)
        self.status: dict[str, Any] = {} if self.stored is None else read_status(self.path)
        self.seconds_before: float = self.status.get("seconds", 0.0)

    @property
    def finished(self) -> bool:
        """Return whether all that is asked for was done here before."""
        done = self.status.get("state") == "done" and (self.path / "metrics.json").exists()
        return done and self.stored is not None and budget(self.config) == budget(self.stored)

    @property
    def metrics(self) -> dict[str, float]:
        """Read `metrics.json`."""
        return read_metrics(self.path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def find_checkpoint(self) -> tuple[dict[str, Any], Path] | None:
        """Load the checkpoint that training goes on from: the last, or the one before if the last is damaged.

        Returns:
            What it holds, and where it is.

        Raises:
            RunFolderError: there are some, and all are damaged.
        """
        found = [path for name in ("last", "previous") if (path := self.checkpoints / f"{name}.ckpt").exists()]
        damage: dict[Path, RunFolderError] = {}
        for path in [] if self.rerun else found:
            try:
                checkpoint = load_checkpoint(path)
            except RunFolderError as error:
                damage[path] = error
            else:
                reasons = [str(error).removesuffix(f"; {START_OVER}") for error in damage.values()]
                self.warnings = [f"{reason}; going on from {path.name}" for reason in reasons]
                self.damaged = list(damage)
                self.samples_seen = checkpoint["counts"]["samples_seen"]
                return checkpoint, path
        if damage:
            raise next(iter(damage.values()))
        return None

    @property
    def run_id(self) -> str:
        """Return the run's name in W&B: eight random hexadecimal digits, the same after an interruption."""
        return self.status["run_id"]

    @contextmanager
    def running(
        self,
        record: dict[str, Any],
        num_processes: int = 1,
        check: Callable[[dict[str, Any], Path], None] | None = None,
    ) -> Iterator[None]:
        """Hold the folder while the run is under way, and write down how it ended.

        Args:
            record: what was served and where, for `record.json`.
            num_processes: that share the training.
            check: refuses a checkpoint, before anything is written, that training cannot go on from.

        Raises:
            RunFolderError: another process holds the folder or finished the run meanwhile, the data are not those
                that the run began with, or the folder cannot be written.
        """
        record = redacted(record) | {"environment": environment(num_processes)}
        if self.rerun:
            with self._locked():
                self._put_aside()
            self.rerun = False
        with self._locked():
            self._read_what_stands()  # again: another process may have been here
            if self.finished:
                raise RunFolderError(f"{self.path} was finished by another process meanwhile; type the command again")
            if self.stored is not None:
                check_same_data(self.path, record.get("data"))
            self.found = self.find_checkpoint()
            if self.found is not None and check is not None:
                check(*self.found)
            changed = self._other_environment(record)
            for partial in self.path.rglob(".*.partial"):
                partial.unlink()  # of a process that was killed
            for damaged in self.damaged:
                damaged.replace(damaged.with_suffix(".damaged"))  # not to become previous.ckpt
            self.status.setdefault("run_id", secrets.token_hex(4))
            self._set("running")  # first of all: the run may have been done, of fewer epochs
            stored = {"format_version": FORMAT_VERSION} | _without_paths(self.config)
            write_atomically(self.path / "config.yaml", yaml.safe_dump(stored, sort_keys=False))
            write_atomically(self.path / "record.json", json.dumps(record, indent=2))
            with logging_to(self.path / "train.log"):
                for warning in [*self.warnings, *changed]:
                    log.warning(warning)
                with self._telling_how_it_ends():
                    yield

    @contextmanager
    def _telling_how_it_ends(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            log.error("the run stopped", exc_info=True, extra={"for_file_only": True})
            own = type(error) is SystemExit and not isinstance(error.__context__, KeyboardInterrupt)  # else Lightning's
            state = "failed" if own or isinstance(error, Exception) else "interrupted"
            line = redact(f"{type(error).__name__}: {error}").splitlines()[0]
            details = error.details if isinstance(error, DivergedError | ProcessError) else None
            with suppress(OSError):  # on a full disk the status stays as it is
                self._set(state, error=line, details=details)
            raise
        self._set("done")

    def _locked(self) -> AcquireReturnProxy:
        """Make the folder and take its lock; leaving the block gives it back."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            return FileLock(self.path / ".lock").acquire(timeout=0.3)  # who only looks whether it is held is quicker
        except Timeout as error:
            raise RunFolderError(f"{self.path} is in use by {self._holder()}; wait for it or stop it") from error
        except OSError as error:
            raise RunFolderError(
                f"cannot write to {self.path} ({error}); choose another with hydra.run.dir="
            ) from error

    def finish(self, metrics: dict[str, float]) -> None:
        """Write the final metrics to `metrics.json`, with the seconds of all attempts that were not killed."""
        write_atomically(self.path / "metrics.json", json.dumps(metrics | {"seconds": self._seconds()}, indent=2))

    def _seconds(self) -> float:
        return round(self.seconds_before + time.monotonic() - self.started, 3)

    def _set(self, state: State, **more: Any) -> None:
        process = {"host": socket.gethostname(), "pid": os.getpid()}
        self.status = {"state": state, "run_id": self.run_id, "seconds": self._seconds(), **process}
        self.status |= {"updated": datetime.now(UTC).isoformat(timespec="seconds")}
        more["slurm_job"] = slurm_job()
        self.status |= {name: value for name, value in more.items() if value is not None}
        write_atomically(self.path / "status.json", json.dumps(self.status, indent=2))

    def _check_identity(self, stored: dict[str, Any]) -> None:
        here, there = science(self.config), science(stored)
        for key in sorted(here.keys() | there.keys()):
            if here.get(key) != there.get(key):
                raise RunFolderError(
                    f"{self.path} holds another run: {key} is {there.get(key)} there and {here.get(key)} here; "
                    "choose another folder with name= or hydra.run.dir=, or start over with rerun=true"
                )
        asked, given = budget(self.config), budget(stored)
        for key in asked:
            if asked[key] < given[key]:
                raise RunFolderError(
                    f"{self.path} was given {key}={given[key]:g}, more than {asked[key]:g}; "
                    "choose another folder with name= or hydra.run.dir=, or start over with rerun=true"
                )

    def _other_environment(self, record: dict[str, Any]) -> list[str]:
        stored = read_json(self.path / "record.json").get("environment")
        if self.stored is None or not isinstance(stored, dict):
            return []
        effects = {"threads": "sums may round otherwise", "processes": "the noise is other noise from here on"}
        found = []
        for name, effect in effects.items():
            here, there = record["environment"][name], stored.get(name, 1 if name == "processes" else None)
            if there not in (None, here):
                found.append(f"begun with {there} {name}, and {here} now: {effect}")
        return found

    def _put_aside(self) -> None:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old{number}")).exists():
            number += 1
        self.path.rename(aside)
        if (output := aside / OUTPUT).exists():  # which a job of a sweep is writing
            self.path.mkdir()
            output.rename(self.path / OUTPUT)

    def _holder(self) -> str:
        status = read_json(self.path / "status.json")
        return f"process {status.get('pid', '?')} on {status.get('host', '?')}"


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    if "data_dir" not in config.get(RUNTIME, {}):
        return config
    return config | {RUNTIME: {key: value for key, value in config[RUNTIME].items() if key != "data_dir"}}
