"""What a metric is called, how it is shown, and which direction is better. Each metric is declared once."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A number that training or an evaluation reports.

    Attributes:
        name: the part of its name after `train/`, `val/` or `test/`.
        label: what tables and pages call it.
        unit: `nats`, `bits/dim`, or empty for a count or a ratio.
        digits: decimals that tables show.
        better: whether a higher or a lower value is better; None where neither is.
    """

    name: str
    label: str
    unit: str = "nats"
    digits: int = 2
    better: Literal["higher", "lower"] | None = None
