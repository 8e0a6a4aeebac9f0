"""Choose the jobs of a sweep: all combinations of the values that were typed."""

from collections.abc import Mapping
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from vaelab.errors import ConfigError
from vaelab.runs.validate import check_whole
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
    check_whole("hydra.sweeper.max_batch_size", max_batch_size, 1, may_be_null=True)
    for override in overrides.values():
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line} is no list of values: type hydra/sweeper=optuna to search it")
    first = 0
    for jobs in BasicSweeper.split_arguments(list(overrides.values()), max_batch_size):
        sweep.launch(jobs, first)
        first += len(jobs)
