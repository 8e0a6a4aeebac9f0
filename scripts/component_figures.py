"""Draw the figures of docs/components.md from the runs of three sweeps, and write them to docs/figures.

- `decoders`, from `python -m vaelab.train sweep=likelihoods sweep.name=decoders`;
- `posteriors`, from `python -m vaelab.train -m encoder=gaussian,full,low_rank,mixture,iaf,coupling,spline
  latent_dim=2 hidden_features=200 trainer.max_epochs=20 sweep.name=posteriors`;
- `priors`, from the same with `prior=standard_normal,normal,mixture,vamp,flow` in place of the encoders.

Type `python scripts/component_figures.py decoders logs/sweeps/decoders`, and so on.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from vaelab.data import ImageData
from vaelab.distributions import mean_or_sample
from vaelab.randomness import seed_draws
from vaelab.runs.build import build
from vaelab.runs.folder.weights import read_weights
from vaelab.runs.resolvers import register_resolvers
from vaelab.vae import VAE

OUT = Path(__file__).parents[1] / "docs" / "figures"
Opened = tuple[str, ImageData, VAE]

register_resolvers()


def opened(folder: Path, group: str) -> Opened:
    """Return the choice that a run of yours made in a group, its data, and its model with the best weights."""
    cfg = OmegaConf.load(folder / "config.yaml")
    assert isinstance(cfg, DictConfig)
    cfg.runtime.data_dir = "${oc.env:VAELAB_DATA_DIR,data}"
    data, module = build(cfg)
    module.load_state_dict(read_weights(folder, "best").state)
    return cfg.runtime.choices[group], data, module.vae.eval()


def decoders(runs: list[Opened], columns: int = 10) -> Figure:
    """Draw samples of each decoder: the mean of p(x|z), or a sample if it has none, above a sample of it."""
    height, width = runs[0][1].event_shape[1:]
    figure = Figure(figsize=(0.6 * columns + 1.6, 1.25 * len(runs) * height / width), layout="constrained")
    for axes, (name, _, vae) in zip(figure.subplots(len(runs)), runs, strict=True):
        p = vae.decode(vae.latent_prior().sample((columns,)))
        rows = [torch.cat([*image], -1) for image in (mean_or_sample(p) / vae.max_pixel, p.sample() / vae.max_pixel)]
        axes.imshow(torch.cat(rows, -2).squeeze(0), cmap="gray", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def panels(runs: list[Opened], draw: Callable[[Axes, ImageData, VAE], None]) -> Figure:
    """Draw a panel for each run."""
    columns = min(4, len(runs))
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, data, vae) in zip(grid, runs, strict=False):
        draw(axes, data, vae)
        axes.set_title(name, fontsize=9)
    for axes in grid[len(runs) :]:
        axes.set_axis_off()
    return figure


def density(log_density: Callable[[Tensor], Tensor], centre: Tensor, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return a grid of z in two dimensions, and exp(log_density) on it, with a maximum of 1."""
    steps = torch.linspace(-reach, reach, 150)
    z = torch.cartesian_prod(steps, steps) + centre
    values = torch.cat([log_density(part) for part in z.split(2500)])
    return (centre[0] + steps), (centre[1] + steps), (values - values.max()).exp().view(150, 150).T


def posteriors(axes: Axes, data: ImageData, vae: VAE) -> None:
    """Draw p(z|x) in grey and q(z|x) as lines, for the test image whose posterior is the widest among the first."""
    q = vae.encode(data.draw("test", torch.arange(min(50, len(data.images["test"])))))
    draws = q.sample((1000,))
    index = int(draws.std(0).prod(-1).argmax())
    x, centre = data.draw("test", torch.tensor([index])), draws[:, index].mean(0)
    q, reach = vae.encode(x), 4 * draws[:, index].std(0).max().item()
    joint = density(lambda z: vae.decode(z).log_prob(x) + vae.latent_prior().log_prob(z), centre, reach)
    axes.contourf(*joint, levels=10, cmap="Greys")
    axes.contour(*density(lambda z: q.log_prob(z.unsqueeze(1)).squeeze(1), centre, reach), levels=5, cmap="autumn")


def priors(axes: Axes, data: ImageData, vae: VAE) -> None:
    """Draw p(z) in grey and a sample of each q(z|x) as a point."""
    codes = vae.encode(data.draw("test", torch.arange(min(500, len(data.images["test"]))))).sample()
    axes.contourf(*density(vae.latent_prior().log_prob, codes.mean(0), 4 * codes.std().item()), levels=10, cmap="Greys")
    axes.scatter(*codes.T, s=1, color="tab:orange")


@torch.no_grad()
def main(kind: str, sweep: str, out: Path = OUT) -> None:
    """Write the figure of a kind from a sweep's folder."""
    group, draw = {
        "decoders": ("decoder", decoders),
        "posteriors": ("encoder", lambda runs: panels(runs, posteriors)),
        "priors": ("prior", lambda runs: panels(runs, priors)),
    }[kind]
    folders = sorted(file.parent for file in Path(sweep).glob("*/metrics.json"))
    runs = [opened(folder, group) for folder in folders]
    seed_draws("cpu", "figures")
    draw(runs).savefig(out / f"{kind}.png", dpi=60, bbox_inches="tight")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
