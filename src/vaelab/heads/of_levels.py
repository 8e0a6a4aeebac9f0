"""The base class of the heads over grey levels."""

from typing import Any

from vaelab.errors import check_count
from vaelab.heads.base import Head


class OfLevels(Head):
    """Base class of the heads that give a mass to each of the grey levels 0 .. `num_levels` - 1.

    Args:
        network: the network before the head.
        num_levels: how many values a pixel of the data can have; `${num_levels:}` in a YAML.

    Raises:
        ValueError: `num_levels` is not a whole number of at least 2.
    """

    pixels = "levels"
    measure = "mass"

    def __init__(self, network: Any, num_levels: int) -> None:
        super().__init__(network)
        check_count("num_levels", num_levels, least=2)
        self.num_levels = num_levels
