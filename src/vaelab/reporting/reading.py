"""Read one job of a sweep: its state, configuration and environment, and its results with their comparability keys.

The folder may be untrusted. A damaged file marks its job as damaged, with a reason, and affects no other job.
All texts are redacted and printable.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vaelab.errors import RunFolderError
from vaelab.evaluation.comparability import Key, as_text
from vaelab.evaluation.declared import DECLARED
from vaelab.runs.folder.contents import read_json
from vaelab.runs.folder.identity import BUDGET, flatten, science
from vaelab.runs.stored_estimators import by_estimator, of_run
from vaelab.runs.tracking.wandb_runs import logs_to_wandb
from vaelab.security.redaction import presentable
from vaelab.security.untrusted import opened, reason_of, shown
from vaelab.sweeps.folder import Job

STATES = ("done", "running", "waiting", "interrupted", "failed", "killed", "damaged")
LOG_BYTES = 2**15  # read from the end of a log


@dataclass(frozen=True)
class Result:
    """The numbers of one job by one estimator.

    Attributes:
        key: the comparability key; only results with equal keys are ranked together.
        numbers: metric name → value, in the unit that the metric declares.
        weights: `last` or `best`.
        source: the file that holds the numbers.
    """

    key: Key
    numbers: dict[str, float]
    weights: str
    source: str


@dataclass
class Entry:
    """Everything that the report shows of one job.

    Attributes:
        state: one of `STATES`.
        damage: the reasons why parts of the folder are unreadable.
        notes: the numbers that are left out, with reasons.
        flat: the scientific configuration and the budget, by dotted keys.
        logger: the configuration of its W&B logger, if it has one.
        versions: the versions of the packages, and the platform, of the run.
        log: the end of `train.log`, if the job did not end well.
        settings: the settings that differ between jobs; see `vaelab.reporting.settings`.
    """

    name: str
    path: Path
    overrides: Sequence[str]
    state: str = "damaged"
    error: str | None = None
    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    flat: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    log: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


def read(job: Job) -> Entry:
    """Read what the report shows of a job."""
    entry = Entry(job.name, job.path, job.overrides)
    for part in (_status, _config, _record, _metrics, _evaluation):
        try:
            part(job, entry)
        except RunFolderError as error:
            entry.damage.append(str(error).replace(f"{job.path}{os.sep}", ""))
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            entry.damage.append(f"unexpected structure of the job's {part.__name__[1:]} ({reason_of(error)})")
    if entry.damage:
        entry.state = "damaged"
    if entry.state not in ("done", "running", "waiting"):
        entry.log = last_lines(job.path / "train.log")
    texts = ("name", "overrides", "error", "damage", "notes", "flat", "versions", "log")
    return replace(entry, **presentable({name: getattr(entry, name) for name in texts}))


def _status(job: Job, entry: Entry) -> None:
    stored = job.status.get("state", "waiting")
    if stored not in STATES:
        raise RunFolderError(f"status.json has state {shown(stored)}, expected {', '.join(STATES[:-1])}")
    entry.state, entry.seconds = job.state, job.seconds
    entry.error = None if job.error is None else str(job.error)[:1000]


def _config(job: Job, entry: Entry) -> None:
    budget = {key: value for key, value in flatten(job.config).items() if key in BUDGET and value is not None}
    entry.flat = science(job.config) | budget
    entry.logger = job.config["runtime"]["logger"] if logs_to_wandb(job.config) else None


def _record(job: Job, entry: Entry) -> None:
    environment = {**job.record.get("environment", {})}
    versions = environment.pop("versions", {}) | environment
    entry.versions = {name: str(value)[:80] for name, value in versions.items()}


def _metrics(job: Job, entry: Entry) -> None:
    """Read `metrics.json` if the job is done. While a job trains on, the file has the metrics of a smaller budget."""
    files = [name for name in ("metrics.json", "evaluation.json") if (job.path / name).exists()]
    if entry.state == "done" and job.metrics:
        key = of_run(job.config, job.record["data"], job.path / "config.yaml")
        entry.results += results_of(key, job.metrics, "last", "metrics.json")
    elif files and entry.state not in ("done", "damaged"):
        entry.notes.append(f"{' and '.join(files)} left out, because the job is {entry.state}, not done")


def _evaluation(job: Job, entry: Entry) -> None:
    """Read `evaluation.json`; skip it if training has continued since, so that `metrics.json` is from other weights."""
    if entry.state != "done" or not (stored := read_json(job.path / "evaluation.json")):
        return
    results = list(results_of(stored["comparability"], stored, str(stored["checkpoint"])[:10], "evaluation.json"))
    prefix = "best/" if stored["checkpoint"] == "best" else ""
    if any(name not in stored or stored[name] != job.metrics.get(prefix + name) for name in ("steps", "samples_seen")):
        entry.notes.append("evaluation.json left out, because it has other weights than metrics.json: evaluate again")
        return
    known = {as_text(result.key): result for result in entry.results}
    for result in results:
        if (same := known.get(as_text(result.key))) is None:
            entry.results.append(result)
        elif same.weights == result.weights:
            same.numbers.update(result.numbers)  # the same, and the inference gap


def results_of(key: Key, metrics: Mapping[str, Any], weights: str, source: str) -> Iterator[Result]:
    """Yield a result for each estimator of `key` that has an estimate.

    If `key` has a single estimator, any metric in `DECLARED` is enough.
    """
    for own_key, named in by_estimator(key, metrics):
        numbers = {short: value for short, value in named.items() if short in DECLARED and is_number(value)}
        if "log_likelihood" in numbers or (len(key["estimators"]) == 1 and numbers):
            yield Result(own_key, numbers, weights, source)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def last_lines(path: Path) -> str:
    """Return the last traceback of a log, or its last lines; empty if the log is unreadable."""
    try:
        with opened(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            lines = file.read(LOG_BYTES).decode("utf-8", errors="replace").splitlines()
    except (OSError, RunFolderError):
        return ""
    tracebacks = [i for i, line in enumerate(lines) if line.startswith("Traceback")]
    first = max(tracebacks[-1] - 1, 0) if tracebacks else 0  # the line before a traceback says what failed
    return "\n".join(lines[first:][-40:])
