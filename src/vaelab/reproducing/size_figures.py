"""Figures of models by their latent size: a panel for each data set, a line for each decoder."""

from collections.abc import Mapping
from html import escape

from matplotlib.figure import Figure

from vaelab.evaluation.figures import draw_ranks
from vaelab.evaluation.predictive import COVERAGES, Histograms, coverage
from vaelab.reproducing.results import Row

BITS = "bits/dim"  # the quantity of the figure; the page draws the others too
Model = tuple[str, int]  # decoder and latent size
Panel = dict[Model, dict[str, Row]]  # the rows of each model by quantity
Panels = Mapping[str, Panel]  # by data set


def by_decoder(panel: Panel, quantity: str) -> dict[str, dict[int, Row]]:
    """Return the row of a quantity for each latent size of each decoder that has it."""
    found: dict[str, dict[int, Row]] = {}
    for (decoder, size), rows in panel.items():
        if quantity in rows:
            found.setdefault(decoder, {})[size] = rows[quantity]
    return found


def of_seeds(row: Row) -> float:
    """Return the standard error over seeds; all models share the test examples, so their choice is left out."""
    return row.deviation / len(row.values) ** 0.5


def lines(panels: Panels) -> Figure:
    """Draw bits per dimension against latent size, with standard errors over seeds."""
    figure = Figure(figsize=(4.5 * len(panels), 4), layout="constrained")
    for axes, (name, panel) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for decoder, points in by_decoder(panel, BITS).items():
            means, errors = [row.mean for row in points.values()], [of_seeds(row) for row in points.values()]
            axes.errorbar([*points], means, errors, marker="o", markersize=4, capsize=3, linewidth=1, label=decoder)
        sizes = sorted({size for _, size in panel})
        axes.set_xscale("log")
        axes.set_xticks(sizes, map(str, sizes))
        axes.minorticks_off()
        axes.set(title=name, xlabel="latent size N_z", ylabel=BITS)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def rank_histograms(panels: Mapping[str, Mapping[str, Histograms]]) -> Figure:
    """Draw the rank histogram of each decoder, a line of axes for each data set, with two standard errors."""
    columns = max(len(panel) for panel in panels.values())
    figure = Figure(figsize=(2.4 * columns, 2.4 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), columns, squeeze=False)
    for line, (name, panel) in zip(grid, panels.items(), strict=True):
        for axes, (decoder, histograms) in zip(line, panel.items(), strict=True):
            draw_ranks(axes, histograms)
            inside = [f"{level:.0%}: {coverage(histograms, level).mean():.1%}" for level in COVERAGES.values()]
            axes.set_title(f"{name}, {decoder}\ninside {', '.join(inside)}", fontsize=7)
            axes.tick_params(labelsize=6)
    return figure


def page(title: str, panels: Panels) -> str:
    """Return an HTML page with a figure for each quantity; plotly.js comes from its content delivery network."""
    from plotly.graph_objects import Scatter  # slow to import, like the next
    from plotly.subplots import make_subplots

    quantities = list(dict.fromkeys(name for panel in panels.values() for rows in panel.values() for name in rows))
    colours = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f"]
    titles = [f"{escape(name)}: {quantity}" for quantity in quantities for name in panels]
    figure = make_subplots(len(quantities), len(panels), subplot_titles=titles, vertical_spacing=0.3 / len(quantities))
    for column, panel in enumerate(panels.values(), 1):
        decoders = list(by_decoder(panel, BITS))
        for line, quantity in enumerate(quantities, 1):
            for decoder, points in by_decoder(panel, quantity).items():
                trace = Scatter(
                    x=[*points],
                    y=[row.mean for row in points.values()],
                    error_y={"array": [of_seeds(row) for row in points.values()]},
                    text=[hover(decoder, size, panel[decoder, size]) for size in points],
                    hovertemplate="%{text}<extra></extra>",
                    name=decoder,
                    legendgroup=decoder,
                    showlegend=column == 1 and quantity == BITS,
                    line={"color": colours[decoders.index(decoder) % len(colours)]},
                )
                figure.add_trace(trace, line, column)
    sizes = sorted({size for panel in panels.values() for _, size in panel})
    figure.update_xaxes(type="log", tickvals=sizes, ticktext=[str(size) for size in sizes])
    figure.update_layout(height=340 * len(quantities), template="plotly_white", margin={"t": 40})
    drawn = figure.to_html(full_html=False, include_plotlyjs="cdn", div_id="figures")
    how = "Against the latent size, with standard errors over seeds. Click a decoder in the legend to hide it."
    head = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    return f'{head}\n<body style="font-family: sans-serif"><h1>{escape(title)}</h1>\n<p>{how}</p>\n{drawn}\n'


def hover(decoder: str, size: int, rows: Mapping[str, Row]) -> str:
    """Return the text of a point: the decoder, the latent size, and all that is known of them, with each seed."""
    seeds = ", ".join(f"{value:.{rows[BITS].digits}f}" for value in rows[BITS].values)
    told = [f"{name}: {row.shown}" for name, row in rows.items()]
    return "<br>".join([f"<b>{escape(decoder)}, N_z = {size}</b>", *told, f"{BITS} of each seed: {seeds}"])
