"""Tables: several settings, each trained with several seeds, and numbers of each."""

from collections.abc import Mapping, Sequence
from typing import Any

from vaelab.api import Run
from vaelab.reproducing.base import Lab, Reproduction
from vaelab.reproducing.results import Row

Measured = dict[str, float]


class Table(Reproduction):
    """Trains each setting with several seeds, and measures each run.

    A budget has `overrides` of all runs, `seeds`, the `settings` that it can pay for, and `evaluate`, for each
    evaluation the overrides of `vaelab.evaluate`.

    Args:
        title, source, budgets, notes: see `Reproduction`.
        quantities: what to measure of a run, a key of `measured`, and its title.
        settings: of each setting the `overrides`, and for each quantity what is known, the arguments of `Row`.
        contrasts: differences between two settings, seed by seed, by their titles: `of`, `minus`, `quantity`, and
            what is known.
    """

    def __init__(
        self,
        title: str,
        source: str,
        budgets: Mapping[str, Any],
        quantities: Mapping[str, str],
        settings: Mapping[str, Any],
        contrasts: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(title, source, budgets, notes)
        self.quantities, self.settings, self.contrasts = quantities, settings, contrasts or {}

    def repeat(self, lab: Lab, budget: Mapping[str, Any]) -> list[Row]:
        chosen = {name: self.settings[name]["overrides"] for name in budget["settings"]}
        trained = lab.sweep("", chosen, budget["overrides"], budget["seeds"])
        found = {name: [self.measured(run, budget) for run in runs] for name, runs in trained.items()}
        rows = []
        for name, known in self.settings.items():
            for key, title in self.quantities.items():
                rows.append(row(name, title, found.get(name, []), key, known.get(key) or {}))
        for title, known in self.contrasts.items():
            first, second = (found.get(known[side], []) for side in ("of", "minus"))
            differences = [
                {key: a[key] - b[key] for key in a if not key.endswith("_error")}
                for a, b in zip(first, second, strict=False)
            ]
            about = {key: value for key, value in known.items() if key not in ("of", "minus", "quantity")}
            rows.append(row(title, self.quantities[known["quantity"]], differences, known["quantity"], about))
        return rows

    def measured(self, run: Run, budget: Mapping[str, Any]) -> Measured:
        """Return the numbers of a run by their keys; `KEY_error` is the error that all seeds share.

        They are those of each evaluation NAME in the budget, as `log_likelihood_NAME`, the ELBO, and differences.
        """
        numbers = {}
        for name, overrides in budget["evaluate"].items():
            found = run.evaluate(overrides)
            numbers |= {key: found[key] for key in ("elbo", "active_units") if key in found}
            numbers[f"log_likelihood_{name}"] = found["log_likelihood"]
            if "log_likelihood_bits_per_dim" in found:
                numbers[f"bits_per_dim_{name}"] = found["log_likelihood_bits_per_dim"]
        return numbers


def row(setting: str, title: str, found: list[Measured], key: str, known: Mapping[str, Any]) -> Row:
    """Return the row of one quantity of the runs of one setting."""
    errors = [each.get(f"{key}_error", 0.0) for each in found]
    return Row(setting, title, [each[key] for each in found], max(errors, default=0.0), **known)
