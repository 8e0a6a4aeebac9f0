"""What a reproduction found: numbers beside those that were published, as JSON, and as a page made from it alone."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast


@dataclass
class Row:
    """A published number, those of known replications, and ours.

    Attributes:
        setting: what was trained, such as `IWAE, k = 5`.
        quantity: what was measured, with its unit, such as `NLL, nats`.
        values: ours, one for each seed; empty if this budget has no run of the setting.
        error: standard error of what all seeds share, such as the choice of test examples.
        published: the published number; None if there is none.
        replications: those of others, by who found them.
        spread: standard deviation of the published number over seeds, if it was published.
        half_width: half the width of the mean's 95 % interval, where it does not follow from `values` and `error`.
        claimed_above: the number that the publication says this one is above; None if it claims no such thing.
        why: why ours may differ, and how that was tested; the page shows it where ours differs.
        digits: decimals to show.
    """

    setting: str
    quantity: str
    values: list[float]
    error: float = 0.0
    published: float | None = None
    replications: dict[str, float] = field(default_factory=dict)
    spread: float = 0.0
    half_width: float = 0.0
    claimed_above: float | None = None
    why: str = ""
    digits: int = 2

    @property
    def is_compared(self) -> bool:
        """Whether there is a published number or claim to compare ours with."""
        return self.published is not None or bool(self.replications) or self.claimed_above is not None

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds; NaN for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    @property
    def margin(self) -> float:
        """Half the width of the mean's 95 % interval; NaN for a single number without error.

        Over the seeds it is that of Student's t. What they share is added in squares.
        """
        if self.half_width:
            return self.half_width
        if len(self.values) == 1:
            return 2 * self.error or math.nan
        from scipy.special import stdtrit  # slow to import

        of_seeds = stdtrit(len(self.values) - 1, 0.975) * self.deviation / math.sqrt(len(self.values))
        return math.hypot(of_seeds, 2 * self.error)

    @property
    def others(self) -> list[float]:
        """The published number and those of replications."""
        return [value for value in (self.published, *self.replications.values()) if value is not None]

    @property
    def difference(self) -> float:
        """How far the mean lies outside of the range of the other numbers; 0 inside."""
        low, high = min(self.others), max(self.others)
        return self.mean - high if self.mean > high else min(self.mean - low, 0.0)

    @property
    def verdict(self) -> str:
        """What the number says.

        It agrees with others, if its distance from their range is within its own 95 % interval and two published
        standard deviations, added in squares.
        """
        if not self.values:
            return "not run at this budget"
        if self.claimed_above is not None:
            return self.verdict_of_claim
        if not self.is_compared:
            return "" if not self.half_width else "apart" if abs(self.mean) > self.margin else "cannot be told apart"
        allowed = math.hypot(0.0 if math.isnan(self.margin) else self.margin, 2 * self.spread)
        if abs(self.difference) <= allowed:
            return "within the spread of replications" if len(self.others) > 1 else "agrees"
        because = f", most likely because {self.why}" if self.why else ""
        return f"differs by {self.difference:+.{self.digits}f}{because}"

    @property
    def verdict_of_claim(self) -> str:
        """Whether the number is above the claimed limit."""
        above = self.mean - cast(float, self.claimed_above)
        if abs(above) <= self.margin:  # False for NaN
            return "open: the limit is inside the 95 % interval"
        return ("holds" if above > 0 else "does not hold") + ", in one run" * math.isnan(self.margin)

    @property
    def interval(self) -> str:
        """The 95 % interval of a difference."""
        low, high = (f"{self.mean + side * self.half_width:+.{self.digits}f}" for side in (-1, 1))
        return f"{low} to {high}"

    @property
    def shown(self) -> str:
        """The mean, and half of its 95 % interval; the verdict if there are no values."""
        if not self.values:
            return self.verdict
        mean = f"{self.mean:.{self.digits}f}"
        return mean if math.isnan(self.margin) else f"{mean} ± {self.margin:.{self.digits}f}"

    def cells(self, replications: Sequence[str]) -> list[str]:
        """Return the cells of a line of the table; `replications` names those that have a column."""
        numbers = [self.published, *(self.replications.get(name) for name in replications)]
        shown = ["" if value is None else f"{value:.{self.digits}f}" for value in numbers]
        if self.claimed_above is not None:
            shown[0] = f"above {self.claimed_above:g}"
        if self.published is not None and self.spread:
            shown[0] += f" ± {self.spread:.{self.digits}f}"
        ours = f"**{self.shown}**" if self.values else ""
        if len(self.values) > 1:
            ours += f" ({self.deviation:.{self.digits}f})"
        return [self.setting, self.quantity, *shown, ours, self.verdict]


@dataclass
class Results:
    """All that a reproduction found, and how.

    Attributes:
        name, budget: what was typed.
        title, source: what it is, who published it and where.
        command: what to type to have it again.
        protocol: the budget's settings, as they were used.
        date, machine: when and where.
        seeds: of the models.
        runs: how many were trained.
        seconds: run time of all runs, added up.
        rows: the numbers.
        curves: lines of the figures: name -> list of points.
        figures: files of the figures, by their titles.
        pages: files of interactive figures, by their titles.
        notes: what else must be known.
    """

    name: str
    title: str
    source: str
    budget: str
    command: str
    protocol: dict[str, Any]
    date: str
    machine: str
    seeds: list[int]
    runs: int
    seconds: float
    rows: list[Row]
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> "Results":
        """Read what `as_json` wrote."""
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        content["rows"] = [Row(**row) for row in content["rows"]]
        return cls(**content)

    def as_json(self) -> str:
        """Return everything as JSON, with seven significant digits."""
        return json.dumps(rounded(asdict(self)), indent=1, ensure_ascii=False) + "\n"

    def as_markdown(self) -> str:
        """Return the page of the results."""
        compared = any(row.is_compared for row in self.rows)
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"
        parts = [
            f"# {self.title}",
            self.source,
            f"```bash\n{self.command}\n```",
            f"{self.date}, {self.machine}. Runs: {self.runs}, {seeds}, {duration(self.seconds)} of run time in all.",
            f"As run: {'; '.join(f'{name}: `{plain(value)}`' for name, value in self.protocol.items())}.",
            *(tables_of_published(self.rows) if compared else tables_of_ours(self.rows)),
            *(f"[{title}]({file})" for title, file in self.pages.items()),
            *(f"![{title}]({file})" for title, file in self.figures.items()),
            "\n".join(f"- {note}" for note in self.notes),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"


def tables_of_published(rows: Sequence[Row]) -> list[str]:
    """Return a table with a line for each row, with the published numbers and ours, and what ours mean."""
    others = list(dict.fromkeys(name for row in rows for name in row.replications))
    head = ["setting", "quantity", "published", *others, "ours", "verdict"]
    how = "Ours: mean over the seeds ± half of its 95 % interval; in parentheses the standard deviation over the seeds."
    spread = " Published: ± is a standard deviation." if any(row.spread for row in rows) else ""
    return [markdown(head, [row.cells(others) for row in rows]), how + spread]


def tables_of_ours(rows: Sequence[Row]) -> list[str]:
    """Return a table with a line for each setting and a column for each quantity, and one of the differences."""
    settings: dict[str, dict[str, str]] = {}
    for row in rows:
        if not row.half_width:
            settings.setdefault(row.setting, {})[row.quantity] = row.shown
    quantities = list(dict.fromkeys(name for known in settings.values() for name in known))
    lines = [[name, *(known.get(quantity, "") for quantity in quantities)] for name, known in settings.items()]
    parts = [markdown(["setting", *quantities], lines)]
    if any(not math.isnan(row.margin) for row in rows if row.values):
        parts.append("Mean over the seeds ± half of its 95 % interval.")
    differences = [[row.setting, row.quantity, row.interval, row.verdict] for row in rows if row.half_width]
    if differences:
        parts.append(markdown(["setting", "difference", "95 % interval", "verdict"], differences))
    return parts


def plain(value: Any) -> str:
    """Return a setting as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines])


def rounded(value: Any) -> Any:
    """Return nested lists and dicts with their floats rounded to seven significant digits."""
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def duration(seconds: float) -> str:
    """Return a time in the largest unit that gives at least 2."""
    for unit, size in {"hours": 3600, "minutes": 60}.items():
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
