"""The declaration of a metric: its name, how it is shown, and which direction is better."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A number that training or an evaluation reports.

    Attributes:
        name: the last part of its full name, such as `test/elbo` or `test/ais/log_likelihood`.
        label: its name in tables and reports.
        unit: `nats`, `bits/dim`, or empty for a count or a share.
        form: its format in tables.
        better: whether a higher or a lower value is better; None if neither.
        meaning: a sentence for the documentation.
    """

    name: str
    label: str
    unit: str = "nats"
    form: str = ".2f"
    better: Literal["higher", "lower"] | None = None
    meaning: str = ""

    def shown(self, value: float | None) -> str:
        """Return a value as tables show it, or an empty string for None."""
        return "" if value is None else format(value, self.form)

    def badness(self, value: float) -> float:
        """Return a number that is lower for a better value. If the metric declares no direction, higher is better."""
        return value if self.better == "lower" else -value
