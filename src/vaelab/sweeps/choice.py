"""Choose the jobs of a sweep: all combinations of the values that were typed."""

import itertools
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from vaelab.errors import ConfigError
from vaelab.sweeps.launchers.base import check_whole
from vaelab.sweeps.sweep import Sweep


def parse(lines: list[str], loader: Any) -> dict[str, Override]:
    """Return key → override, by Hydra's own grammar. The last override of a key counts."""
    return {override.get_key_element(): override for override in OverridesParser.create(loader).parse_overrides(lines)}


def combinations(sweep: Sweep, overrides: Mapping[str, Override], max_batch_size: int | None = None) -> None:
    """Run a job for each combination of the values.

    Args:
        sweep: launches the jobs.
        overrides: key → one value, or several.
        max_batch_size: jobs that are planned, and run, at a time; None: all are planned before any runs.

    Raises:
        ConfigError: an override is a continuous range.
    """
    check_whole("hydra.sweeper", max_batch_size=max_batch_size)
    lines = []
    for key, override in overrides.items():
        if not override.is_sweep_override():
            values = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            values = list(override.sweep_string_iterator())
        else:
            raise ConfigError(f"{override.input_line} is no list of values: type hydra/sweeper=optuna to search it")
        lines.append([f"{key}={value}" for value in values])
    jobs = list(itertools.product(*lines))
    size = max_batch_size or len(jobs)
    for first in range(0, len(jobs), size):
        sweep.launch(jobs[first : first + size], first)
