"""Read one job of a sweep: its state, configuration and environment, and its results with their comparability keys.

The folder may be untrusted. A damaged file marks its job as damaged, with a reason, and affects no other job. A damaged
evaluation or curve is only noted, because the job's own results do without it.
All texts are redacted and printable.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from vaelab.errors import RunFolderError
from vaelab.evaluation.comparability import Key, as_text
from vaelab.evaluation.declared import DECLARED
from vaelab.reporting.values import STATES, is_number
from vaelab.runs.estimates import by_estimator
from vaelab.runs.evaluating.cache import TEST, read_column
from vaelab.runs.folder.contents import START_OVER, read_json
from vaelab.runs.folder.curves import Curve, read_curves
from vaelab.runs.folder.identity import BUDGET, flatten, is_control, science
from vaelab.runs.folder.names import key_of
from vaelab.runs.tracking.wandb_runs import logs_to_wandb
from vaelab.security.redaction import presentable
from vaelab.security.untrusted import opened, reason_of, shown
from vaelab.sweeps.folder import Job

LOG_BYTES = 2**15  # read from the end of a log
OF_KEY = {"data": str, "split": str, "measure": str, "examples": int, "of": int, "event_shape": list, "num_levels": int}


@dataclass(frozen=True)
class Result:
    """The numbers of one job by one estimator."""

    key: Key  # the comparability key; only results with equal keys are ranked together
    numbers: dict[str, float]  # metric name → value, in the unit that the metric declares
    weights: str  # `last` or `best`
    source: str  # the file that holds the numbers
    validation: float | None  # the validation's ELBO of these weights in nats, which chooses between settings
    values: Path  # the file that holds the values of each example

    def of_examples(self, name: str) -> Tensor:
        """Return the values of each example under the name of a metric that is a mean over examples.

        Raises:
            RunFolderError: the run folder does not store them.
        """
        (estimator,) = self.key["estimators"]
        try:
            return read_column(self.values, estimator, name)
        except FileNotFoundError as error:
            job = self.values.parent.parent
            raise RunFolderError(
                f"{job.name} has no values of single examples: type python -m vaelab.evaluate run_dir={job}"
            ) from error


@dataclass
class Entry:
    """Everything that the report shows of one job."""

    name: str
    path: Path
    overrides: Sequence[str]
    state: str = "damaged"  # one of `STATES`
    error: str | None = None
    damage: list[str] = field(default_factory=list)  # the reasons why parts of the folder are unreadable
    notes: list[str] = field(default_factory=list)  # what is left out, with reasons
    seconds: float = 0.0
    flat: dict[str, Any] = field(default_factory=dict)  # the scientific configuration and the budget, by dotted keys
    logger: dict[str, Any] | None = None  # the configuration of its W&B logger, if it has one
    run_id: str = ""  # the id of its run in W&B, if it has one
    versions: dict[str, str] = field(default_factory=dict)  # the versions of the packages, and the platform, of the run
    results: list[Result] = field(default_factory=list)
    curve: Curve = field(default_factory=list)  # points: training samples seen, validation bound in nats
    log: str = ""  # the end of `train.log`, if the job did not end well
    settings: dict[str, Any] = field(default_factory=dict)  # those that differ between jobs; see `assign_settings`

    @property
    def told(self) -> list[str]:
        """The overrides that can change the result, of the budget too."""
        return [each for each in self.overrides if (key := key_of(each)) in BUDGET or not is_control(key)]


def read(job: Job) -> Entry:
    """Read what the report shows of a job."""
    entry = Entry(job.name, job.path, job.overrides)
    for part in (status, config, _record, _metrics):
        with listing_damage(job, part.__name__.strip("_"), entry.damage):
            part(job, entry)
    if entry.damage:
        entry.state = "damaged"
    if entry.state == "done":
        with listing_damage(job, "evaluations", entry.notes):
            _evaluations(job, entry)
    with listing_damage(job, "curves", entry.notes):
        _curve(job, entry)
    if entry.state not in ("done", "running", "waiting"):
        entry.log = last_lines(job.path / "train.log")
    texts = ("name", "overrides", "error", "damage", "notes", "flat", "versions", "log")
    return replace(entry, **presentable({name: getattr(entry, name) for name in texts}))


@contextmanager
def listing_damage(job: Job, part: str, reasons: list[str]) -> Iterator[None]:
    """Add the reason to `reasons` if a part of the job cannot be read."""
    try:
        yield
    except RunFolderError as error:
        reasons.append(str(error).replace(f"{job.path}{os.sep}", ""))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reasons.append(f"unexpected structure of the job's {part} ({reason_of(error)})")


def status(job: Job, entry: Entry) -> None:
    """Add the state, the seconds and the error."""
    stored = job.status.get("state", "waiting")
    if stored not in STATES:
        raise RunFolderError(f"status.json has state {shown(stored)}, expected {', '.join(STATES[:-1])}")
    entry.state, entry.seconds = job.state, job.seconds
    entry.error = None if job.error is None else str(job.error)[:1000]


def config(job: Job, entry: Entry) -> None:
    """Add the configuration."""
    budget = {key: value for key, value in flatten(job.config).items() if key in BUDGET and value is not None}
    entry.flat = science(job.config) | budget
    if logs_to_wandb(job.config):
        entry.logger, entry.run_id = job.config["runtime"]["logger"], str(job.status.get("run_id", ""))


def _record(job: Job, entry: Entry) -> None:
    environment = {**job.record.get("environment", {})}
    versions = environment.pop("versions", {}) | environment
    entry.versions = {name: str(value)[:80] for name, value in versions.items()}


def _metrics(job: Job, entry: Entry) -> None:
    """Read `metrics.json` if the job is done. While a job trains on, the file has the metrics of a smaller budget."""
    files = [name for name in ("metrics.json", "evaluation.json") if (job.path / name).exists()]
    if entry.state == "done" and job.metrics:
        values = job.path / "evaluations" / f"{TEST}.safetensors"
        validation = finite(job.metrics.get("val/elbo"))
        entry.results += results_of(
            job.record["comparability"], job.metrics, "last", "metrics.json", validation, values
        )
    elif files and entry.state not in ("done", "damaged"):
        entry.notes.append(f"{' and '.join(files)} left out, because the job is {entry.state}, not done")


def _evaluations(job: Job, entry: Entry) -> None:
    """Read each evaluation, the latest first; note those that are damaged."""
    files, stale, reasons = list((job.path / "evaluations").glob("*.json")), 0, []
    for file in sorted(files, key=lambda path: (path.lstat().st_mtime_ns, path.name), reverse=True):
        with listing_damage(job, f"evaluations/{file.name}", reasons):
            stale += not _evaluation(job, entry, file)
    entry.notes += [reason.removesuffix(f"; {START_OVER}") for reason in reasons]
    if stale:
        entry.notes.append(
            f"{stale} of {len(files)} evaluations left out, because they have other weights than metrics.json: "
            "evaluate again"
        )


def _evaluation(job: Job, entry: Entry, file: Path) -> bool:
    """Read an evaluation; return False if it is of other weights, from before training went on.

    Where an evaluation scores a density over D dequantised pixels as a mass over L levels, the validation's bound minus
    D log L is a bound on that mass (Theis et al. 2016, section 3.1), so that it can be ranked with other masses.
    """
    stored = read_json(file)
    prefix = "best/" if stored["checkpoint"] == "best" else ""
    counts = {name: job.metrics.get(prefix + name) for name in ("steps", "samples_seen")}
    if None in counts.values() or not counts.items() <= stored.items():
        return False
    weights, values = "best" if prefix else "last", file.with_suffix(".safetensors")
    key, validation = stored["comparability"], finite(job.metrics.get(f"{prefix}val/elbo"))
    if validation is not None and key["measure"] != job.record["comparability"]["measure"]:
        validation -= math.prod(key["event_shape"]) * math.log(key["num_levels"])
    known = {as_text(result.key): i for i, result in enumerate(entry.results)}
    for result in results_of(key, stored, weights, f"evaluations/{file.name}", validation, values):
        if (i := known.get(as_text(result.key))) is None:
            entry.results.append(result)
        elif (same := entry.results[i]).weights != weights:
            entry.notes.append(
                f"evaluations/{file.name} left out, because the report already has the {same.weights} weights of this "
                f"job under the same key, from {same.source}, and a job is ranked once"
            )
        else:  # it may add the inference gap, or values
            kept = same.values if same.values.exists() else values
            entry.results[i] = replace(same, numbers=result.numbers | same.numbers, values=kept)
    return True


def _curve(job: Job, entry: Entry) -> None:
    """Read the validation's bound in the course of training, without values that are not finite."""
    curve = read_curves(job.path).get("val/elbo", [])
    entry.curve = sorted({seen: bound for seen, bound in curve if math.isfinite(bound)}.items())


def results_of(
    key: Key, metrics: Mapping[str, Any], weights: str, source: str, validation: float | None, values: Path
) -> Iterator[Result]:
    """Yield a result for each estimator of `key` that has an estimate.

    If `key` has a single estimator, any metric in `DECLARED` is enough.
    """
    for name, kind in OF_KEY.items():
        if not isinstance(key[name], kind):
            raise RunFolderError(f"the comparability key in {source} has {name}={shown(key[name])}")
    for own_key, named in by_estimator(key, metrics):
        numbers = {short: value for short, value in named.items() if short in DECLARED and is_number(value)}
        if "log_likelihood" in numbers or (len(key["estimators"]) == 1 and numbers):
            yield Result(own_key, numbers, weights, source, validation, values)


def finite(value: Any) -> float | None:
    """Return a value if it is a finite number, else None."""
    return value if is_number(value) else None


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
