"""The run folder: one folder, one run, whose identity is its scientific configuration. Idempotent and atomic."""

import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

import yaml
from filelock import AcquireReturnProxy, FileLock, Timeout

from vaelab.errors import DivergedError, ProcessError, RunFolderError, message_of
from vaelab.files import write_atomically
from vaelab.runs.configuration import RUNTIME
from vaelab.runs.folder import contents
from vaelab.runs.folder.identity import budget, science
from vaelab.runs.folder.log import logging_to
from vaelab.security.redaction import redact, redacted
from vaelab.signals import slurm_job

State = Literal["running", "done", "interrupted", "failed"]
OUTPUT = "output.log"  # what all attempts of a sweep's job printed, with tracebacks

log = logging.getLogger(__name__)


class RunFolder:
    """A folder that holds one run, and knows what is left to do. The constructor only reads; `running` writes.

    Args:
        path: the folder; it need not exist.
        config: the resolved configuration as plain data.
        rerun: rename an existing folder, and start over.

    Raises:
        RunFolderError: the folder cannot be read, has a larger budget of epochs or steps than `config`, or holds
            another configuration (the message names the first key that differs).
    """

    def __init__(self, path: Path, config: dict[str, Any], rerun: bool = False) -> None:
        self.path = path
        self.config = config
        self.started = time.monotonic()
        self.rerun = rerun and (path / "config.yaml").exists() and not self._begun_by_this_job()
        self.resumed_from: Path | None = None  # during the run, the checkpoint that training resumes from
        self.samples_seen = 0  # how many training examples the run had seen at that checkpoint
        self.begun = False
        self._read_what_stands()

    def _begun_by_this_job(self) -> bool:
        # a requeued SLURM job must resume, because `rerun` would start it over after each requeue
        job = slurm_job(restarted=True)
        with suppress(RunFolderError):
            return job is not None and contents.read_json(self.path / "status.json").get("slurm_job") == job
        return False

    def _read_what_stands(self) -> None:
        here = (self.path / "config.yaml").exists() and not self.rerun
        self.stored = contents.read_config(self.path) if here else None
        self.status: dict[str, Any] = contents.read_status(self.path) if here else {}
        self.ended_by: str | None = self.status.get("ended_by")  # why a callback ended the training
        self.seconds_before: float = self.status.get("seconds", 0.0)
        if self.stored is not None:
            self._check_identity(self.stored)
        if self._done and not self.finished and not any(map(Path.exists, contents.resumable(self.checkpoints))):
            raise RunFolderError(
                f"{self.path} is done, and has no last.ckpt to continue from (keep=best and vaelab.list remove it): "
                "start over with rerun=true, and keep=all"
            )

    @property
    def finished(self) -> bool:
        """Return whether the run is done, with the limits of epochs and steps in `config`, or ended by a callback."""
        budgets = self.stored is not None and budget(self.config) == budget(self.stored)
        return self._done and (budgets or self.ended_by is not None)

    @property
    def _done(self) -> bool:
        """Return whether the run is done, with the limits of epochs and steps that it last had."""
        return self.status.get("state") == "done" and (self.path / "metrics.json").exists()

    @property
    def metrics(self) -> dict[str, float]:
        """Read `metrics.json`."""
        return contents.read_metrics(self.path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def run_id(self) -> str:
        """Return the run's id in W&B: the one that the configuration gives, or the former one, or a random one."""
        return self.status["run_id"]

    @property
    def given_id(self) -> str | None:
        """Return the id that the configuration gives to the run in W&B, if any."""
        given = self.config.get(RUNTIME, {}).get("logger", {}).get("id")
        return None if given in (None, "") else str(given)

    def adopt_given_id(self) -> None:
        """Store the configuration's id of a finished run, so that later evaluations find the same run in W&B."""
        with self._locked():
            self._write_status(self.status | {"run_id": self.given_id})

    @contextmanager
    def running(
        self, record: dict[str, Any], num_processes: int = 1, check: contents.Check = lambda checkpoint, path: None
    ) -> Iterator[None]:
        """Hold the folder's lock during the run, and record how the run ended.

        `record` is what `record.json` says of the data and of the code. `check` refuses a checkpoint that training
        cannot resume from, before anything is written.

        Raises:
            RunFolderError: another process holds the folder or finished the run meanwhile, the data are not those
                that the run began with, all checkpoints are damaged, or the folder cannot be written.
        """
        record = redacted(record) | {"environment": contents.environment(num_processes)}
        if self.rerun:
            with self._locked():
                self._put_aside()
            self.rerun = False
        with self._locked():
            self._read_what_stands()  # again, because another process may have changed the folder
            if self.finished:
                raise RunFolderError(f"{self.path} was finished by another process meanwhile; type the command again")
            if self.stored is not None:
                contents.check_same_data(self.path, record.get("data"))
            self.resumed_from, self.samples_seen, warnings = contents.find_checkpoint(self.checkpoints, check)
            warnings = [*contents.changes(self.path, record), *warnings]
            for partial in self.path.rglob(".*.partial"):
                partial.unlink()  # left by a process that was killed
            self.status["run_id"] = self.given_id or self.status.get("run_id") or secrets.token_hex(4)
            former = self.status if self._done else None
            self.record = contents.with_former_code(self.path, record)
            self._set("running")
            if self.stored is None:
                self.begin()
            with logging_to(self.path / "train.log"), self._telling_how_it_ends(former):
                for warning in warnings:
                    log.warning(warning)
                yield

    def begin(self) -> None:
        """Store the configuration and the record; call this before a checkpoint is written.

        Until then the folder keeps its former limits of epochs and steps. So if a finished run is continued, and the
        continuation fails before its first checkpoint, the run is still finished.
        """
        if self.begun:
            return
        self.begun = True
        stored = {"format_version": contents.FORMAT_VERSION} | self.config
        write_atomically(self.path / "config.yaml", yaml.safe_dump(stored, sort_keys=False))
        write_atomically(self.path / "record.json", json.dumps(self.record, indent=2))

    @contextmanager
    def _telling_how_it_ends(self, former: dict[str, Any] | None) -> Iterator[None]:
        """Write how the run ended to `status.json`; `former` is its content if the run was done before."""
        try:
            yield
        except BaseException as error:
            log.error("the run stopped", exc_info=True, extra={"for_file_only": True})
            # Lightning raises a SystemExit of its own while it handles a KeyboardInterrupt
            own = type(error) is SystemExit and not isinstance(error.__context__, KeyboardInterrupt)
            state = "failed" if own or isinstance(error, Exception) else "interrupted"
            line = redact(f"{type(error).__name__}: {message_of(error)}").splitlines()[0]
            details = error.details if isinstance(error, DivergedError | ProcessError) else None
            with suppress(OSError, RunFolderError):  # on a full disk the status stays as it is
                if former is not None and budget(contents.read_config(self.path)) != budget(self.config):
                    self._write_status(former)  # because no checkpoint was written
                else:
                    self._set(state, error=line, details=details)
            raise
        self._set("done", ended_by=self.ended_by)
        if self.config.get(RUNTIME, {}).get("keep") == "best":
            try:
                contents.remove_spare_checkpoints(self.path)
            except RunFolderError as error:
                log.warning(error)

    def _locked(self) -> AcquireReturnProxy:
        """Make the folder and acquire its lock, which the end of the `with` block releases."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            return FileLock(self.path / ".lock").acquire(timeout=0.3)  # another process may test the lock for a moment
        except Timeout as error:
            status = contents.read_json(self.path / "status.json")
            holder = f"process {status.get('pid', '?')} on {status.get('host', '?')}"
            raise RunFolderError(f"{self.path} is in use by {holder}; wait for it or stop it") from error
        except OSError as error:
            raise RunFolderError(
                f"cannot write to {self.path} ({error}); choose another folder with hydra.run.dir="
            ) from error

    def finish(self, metrics: dict[str, float], ended_by: str | None = None) -> None:
        """Write the final metrics to `metrics.json`, with the total seconds of all attempts that were not killed.

        `ended_by` says why a callback ended the training, if one did.
        """
        self.begin()
        self.ended_by = ended_by and redact(ended_by)
        write_atomically(self.path / "metrics.json", json.dumps(metrics | {"seconds": self._seconds()}, indent=2))

    def _seconds(self) -> float:
        return round(self.seconds_before + time.monotonic() - self.started, 3)

    def _set(self, state: State, **more: Any) -> None:
        status: dict[str, Any] = {"state": state, "run_id": self.run_id, "seconds": self._seconds()}
        status |= {"host": socket.gethostname(), "pid": os.getpid()}
        status |= {"updated": datetime.now(UTC).isoformat(timespec="seconds")}
        more["slurm_job"] = slurm_job()
        self._write_status(status | {name: value for name, value in more.items() if value is not None})

    def _write_status(self, status: dict[str, Any]) -> None:
        self.status = status
        write_atomically(self.path / "status.json", json.dumps(status, indent=2))

    def _check_identity(self, stored: dict[str, Any]) -> None:
        here, there = science(self.config), science(stored)
        differing = [key for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)]
        asked, given = budget(self.config), budget(stored)
        found = [f"holds another run, with {key}={there.get(key)} instead of {here.get(key)}" for key in differing]
        found += [
            f"was run with {key}={given[key]:g}, more than the {most:g} of this command"
            for key, most in asked.items()
            if given[key] > most
        ]
        if found:
            raise RunFolderError(
                f"{self.path} {found[0]}; choose another folder with name= or hydra.run.dir=, or start over with "
                "rerun=true"
            )

    def _put_aside(self) -> None:
        names = (f"{self.path.name}.old{number}" for number in count(1))
        aside = next(path for path in map(self.path.with_name, names) if not path.exists())
        self.path.rename(aside)
        if (output := aside / OUTPUT).exists():  # a job of a sweep is still writing to it
            self.path.mkdir()
            output.rename(self.path / OUTPUT)
