"""The jobs of a sweep, read: what each says of itself, and its numbers with what they may be compared with.

The folders may be anybody's: what is damaged is told of with a reason, and costs no other job anything.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaelab.errors import RunFolderError
from vaelab.evaluation.comparability import Key
from vaelab.runs.folder.contents import read_json
from vaelab.runs.folder.identity import BUDGET, flatten, science
from vaelab.runs.stored_estimators import of_run
from vaelab.security.redaction import printable
from vaelab.security.untrusted import opened, reason_of, shown
from vaelab.sweeps.folder import Job

STATES = ("done", "running", "waiting", "interrupted", "failed", "killed", "damaged")
OF_SPLIT = ("elbo", "sampling_error", "reconstruction", "kl", "active_units", "latent_dim")
OF_ESTIMATE = ("log_likelihood", "standard_error", "pareto_k_bad", "log_likelihood_bits_per_dim")
COUNTS = ("steps", "samples_seen")  # that tell weights apart
LOG_BYTES = 2**15  # of the end of a log
LOG_LINES = 40
Numbers = dict[str, float]


@dataclass(frozen=True)
class Result:
    """The numbers of one job by one estimator, in nats where their names say nothing else.

    Attributes:
        key: what another's must share to stand in one ranking with these.
        weights: `last` or `best`.
        source: the file that they are of.
    """

    key: Key
    numbers: Numbers
    weights: str
    source: str


@dataclass
class Entry:
    """A job as the report tells of it.

    Attributes:
        state: where it is, or `damaged`.
        damage: why something of it could not be read.
        notes: which numbers of it are left out, and why.
        flat: its scientific configuration and budget, by dotted keys.
        versions: of the environment that it ran in.
        log: the last lines of what it wrote, where it did not end well.
        settings: what tells it from the others; see `vaelab.reporting.settings`.
    """

    name: str
    path: Path
    overrides: tuple[str, ...]
    state: str = "damaged"
    error: str | None = None
    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    flat: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    log: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


def read(job: Job) -> Entry:
    """All that the report takes of a job; its files are not kept in memory."""
    entry = Entry(job.name, job.path, job.overrides)
    for part in (_status, _config, _record, _metrics, _evaluation):
        try:
            part(job, entry)
        except RunFolderError as error:
            entry.damage.append(str(error).replace(f"{job.path}{os.sep}", ""))
        except OSError as error:
            entry.damage.append(f"{type(error).__name__}: {error.strerror}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            entry.damage.append(f"what {part.__name__[1:]} tells has another shape ({reason_of(error)})")
    if entry.damage:
        entry.state = "damaged"
    if entry.state not in ("done", "running", "waiting"):
        entry.log = last_lines(job.path / "train.log")
    return entry


def _status(job: Job, entry: Entry) -> None:
    said = job.status.get("state", "waiting")
    if said not in STATES:
        raise RunFolderError(f"status.json has state {shown(said)}, expected {', '.join(STATES[:-1])}")
    entry.state, entry.seconds = job.state, float(job.seconds)
    entry.error = None if job.error is None else printable(str(job.error)[:1000])


def _config(job: Job, entry: Entry) -> None:
    config = job.config
    budget = {key: value for key, value in flatten(config).items() if key in BUDGET and value is not None}
    entry.flat = science(config) | budget


def _record(job: Job, entry: Entry) -> None:
    environment = job.record.get("environment", {})
    more = {name: environment[name] for name in ("threads", "platform") if name in environment}
    entry.versions = {str(name): str(value)[:80] for name, value in (environment.get("versions", {}) | more).items()}


def _metrics(job: Job, entry: Entry) -> None:
    """Of a job that is done; one that goes on after its end has the numbers of that end, of another budget."""
    if entry.state != "done":
        found = [name for name in ("metrics.json", "evaluation.json") if (job.path / name).exists()]
        if found and entry.state != "damaged":
            entry.notes.append(f"{' and '.join(found)} left out: only jobs that are done count, this is {entry.state}")
        return
    metrics = job.metrics
    if metrics:
        key = of_run(job.config, job.record["data"], job.path / "config.yaml")
        entry.results += results_of(key, metrics, "last", "metrics.json")


def _evaluation(job: Job, entry: Entry) -> None:
    """Of the weights that the metrics are of; training may have gone on since."""
    if entry.state != "done" or not (stored := read_json(job.path / "evaluation.json")):
        return
    key, weights = stored["comparability"], str(stored["checkpoint"])[:10]
    found = list(results_of(key, stored, weights, "evaluation.json"))
    prefix = "best/" if weights == "best" else ""
    if any(name not in stored or stored[name] != job.metrics.get(prefix + name) for name in COUNTS):
        entry.notes.append("evaluation.json left out: it is of other weights than metrics.json; evaluate again")
        return
    known = [as_text(result.key) for result in entry.results]
    entry.results += [result for result in found if as_text(result.key) not in known]


def results_of(key: Key, metrics: Mapping[str, Any], weights: str, source: str) -> Iterator[Result]:
    """One result for each estimator of `key` that has numbers, or one without an estimate where none has."""
    split, names = key["split"], list(key["estimators"])
    for name in names:
        single = f"{split}/log_likelihood" in metrics
        own = metrics if single else {k.replace(f"{split}/{name}/", f"{split}/"): v for k, v in metrics.items()}
        numbers = {n: own[f"{split}/{n}"] for n in (*OF_SPLIT, *OF_ESTIMATE) if is_number(own.get(f"{split}/{n}"))}
        if "log_likelihood" in numbers or (len(names) == 1 and numbers):
            yield Result({**key, "estimators": {name: key["estimators"][name]}}, numbers, weights, source)


def as_text(key: Key) -> str:
    """A key as a text that is equal for equal keys."""
    return json.dumps(key, sort_keys=True, default=str)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number: a result, or a place on a numeric axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def last_lines(path: Path) -> str:
    """The last traceback of a log, or its last lines; nothing if there is none that can be read."""
    try:
        with opened(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            lines = file.read(LOG_BYTES).decode("utf-8", errors="replace").splitlines()
    except (OSError, RunFolderError):
        return ""
    begins = [i for i, line in enumerate(lines) if line.startswith("Traceback")]
    return printable("\n".join(lines[max(begins[-1] - 1, 0) if begins else 0 :][-LOG_LINES:]))
