"""The table of an evaluation, on a terminal of 80 columns."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from vaelab.estimators import Estimator
from vaelab.evaluation.declared import DECLARED

Metrics = Mapping[str, float]
Add = Callable[..., None]


def show_evaluation(
    title: str, metrics: Metrics, estimators: Mapping[str, Estimator], notes: Sequence[str], closing: str
) -> None:
    """Print the numbers of `vaelab.evaluation.metrics.summary`, the advice on them, and a last line."""
    in_bits = any(name.endswith("bits_per_dim") for name in metrics)
    table = Table(
        "", "nats", "+-", *(["bits/dim"] if in_bits else []), "", title=title, caption="+-: one standard error"
    )
    table.title_justify = table.caption_justify = "left"
    for column in table.columns[1:-1]:
        column.justify = "right"

    def add(
        row: str, value: float | None, error: float | None = None, bits: float | None = None, note: str = ""
    ) -> None:
        found = ["" if error is None else f"{error:.3f}"]
        found += ["" if bits is None else f"{bits:.4f}"] if in_bits else []
        table.add_row(row, "" if value is None else f"{value:.3f}", *found, note)

    add_bound(add, metrics)
    for prefix, estimator in estimators.items():
        table.add_section()
        own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
        add_estimate(add, own, estimator)
    table.add_section()
    add_latent(add, metrics)
    console = Console()
    console.print(table)
    for note in notes:
        console.print(f"- {note}", highlight=False, soft_wrap=True, markup=False)
    console.print(closing, highlight=False, soft_wrap=True, markup=False)


def label(name: str) -> str:
    """Return what tables call a metric."""
    return DECLARED[name].label


def add_bound(add: Add, metrics: Metrics) -> None:
    """Add the bound, its standard error over examples, and its two parts."""
    error = metrics.get("sampling_error")
    note = "" if error is None else "+- of other examples"
    add(label("elbo"), metrics["elbo"], error, metrics.get("bits_per_dim"), note)
    add(
        f"  {label('distortion')}",
        metrics["distortion"],
        metrics.get("distortion_error"),
        note="-E log p(x|z)",
    )
    add(f"  {label('rate')}", metrics["rate"], metrics.get("rate_error"), note="KL(q(z|x) || p(z))")
    if "bound" in metrics:
        add(label("bound"), metrics["bound"])


def add_estimate(add: Add, own: Metrics, estimator: Estimator) -> None:
    """Add log p(x) by one estimator, its Monte Carlo error, and diagnostics."""
    notes = [f"K={own['num_samples']:.0f}"] if "num_samples" in own else []
    notes += [f"ESS {own['effective_sample_size']:.1f}"] if "effective_sample_size" in own else []
    notes += [f"k {own['pareto_k']:.2f}"] if "pareto_k" in own else []
    notes += [f"accept {own['acceptance_rate']:.2f}"] if "acceptance_rate" in own else []
    bits = own.get("log_likelihood_bits_per_dim")
    add(
        f"{label('log_likelihood')}, {estimator.name}",
        own.get("log_likelihood"),
        own.get("standard_error"),
        bits,
        " ".join(notes),
    )
    if "log_mass" in own:
        values = [own.get(f"log_mass_{name}") for name in ("standard_error", "bits_per_dim")]
        add(f"  {label('log_mass')}", own["log_mass"], *values, note="over dequantisations")
    if "simulated_gap" in own:
        add(f"  {label('simulated_lower')}", own["simulated_lower"], note="of examples that the")
        add(f"  {label('simulated_upper')}", own["simulated_upper"], note="model itself drew")
        add(f"  {label('simulated_gap')}", own["simulated_gap"], own.get("simulated_gap_error"))


def add_latent(add: Add, metrics: Metrics) -> None:
    """Add how the posterior uses the latent."""
    limit = f"at most log N = {metrics['mutual_information_limit']:.2f}"
    active = "active_units" in metrics
    add(
        label("mutual_information"),
        metrics["mutual_information"],
        metrics.get("mutual_information_error"),
        note=limit,
    )
    note = f"{metrics['active_units']:.0f} of {metrics['latent_dim']:.0f} units active" if active else ""
    add(label("marginal_kl"), metrics["marginal_kl"], metrics.get("marginal_kl_error"), note=note)
