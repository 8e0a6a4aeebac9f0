"""Time of a training step: a plain loop, the usual Lightning + DataLoader, and vaelab, on the same data in one run.

    python benchmarks/step.py [--rounds 5] [--threads 2]

Two networks of the paper's kind, with Bernoulli decoder and dynamic binarisation, on the embedded digits. The three are
timed in turn, round after round, after one round of warm-up; the table has medians in ms per optimiser step, ratios to
the plain loop (taken round by round), and the time of the six matrix products alone (forward, and two each backward).
"""

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vaelab.conditional import VAE, Conditional
from vaelab.data.mnist5k import MNIST5k
from vaelab.estimators import ImportanceSampling
from vaelab.heads import Bernoulli, DiagonalGaussian
from vaelab.module import VAEModule
from vaelab.networks import MLP
from vaelab.objectives import ELBO
from vaelab.priors import StandardNormal

NETWORKS = {"784-500-20-500-784, batch 100": (500, 20, 100), "784-200-50-200-784, batch 20": (200, 50, 20)}
STEPS = 400


class PlainVAE(nn.Module):
    """The paper's network as one would write it by hand."""

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.w3, self.w4, self.w5 = nn.Linear(784, hidden), nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.w1, self.w2 = nn.Linear(latent, hidden), nn.Linear(hidden, 784)

    def loss(self, x: Tensor) -> Tensor:
        h = self.w3(x).tanh()
        mu, log_variance = self.w4(h), self.w5(h)
        z = mu + (0.5 * log_variance).exp() * torch.randn_like(mu)
        logits = self.w2(self.w1(z).tanh())
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = -0.5 * (1 + log_variance - mu.square() - log_variance.exp()).sum()
        return (nll + kl) / len(x)


class UsualModule(pl.LightningModule):
    """The same network as a tutorial would put it into Lightning."""

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.vae = PlainVAE(hidden, latent)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.vae.loss(torch.bernoulli(batch[0]))
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def plain_loop(data: MNIST5k, hidden: int, latent: int, batch_size: int) -> Callable[[], None]:
    levels = data.images["train"].flatten(1)
    model = PlainVAE(hidden, latent)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def run() -> None:
        done = 0
        while done < STEPS:
            for indices in torch.randperm(len(levels)).split(batch_size)[: STEPS - done]:
                batch = levels[indices]
                x = (torch.empty_like(batch).random_(0, 255) < batch).float()
                optimizer.zero_grad()
                model.loss(x).backward()
                optimizer.step()
                done += 1

    return run


def usual_lightning(data: MNIST5k, hidden: int, latent: int, batch_size: int) -> Callable[[], None]:
    grey = data.images["train"].flatten(1) / 255
    loader = DataLoader(TensorDataset(grey), batch_size=batch_size, shuffle=True)
    module = UsualModule(hidden, latent)

    def run() -> None:
        quiet_trainer(max_steps=STEPS).fit(module, loader)

    return run


def vaelab_loop(data: MNIST5k, hidden: int, latent: int, batch_size: int) -> Callable[[], None]:
    def trunk(shape: tuple[int, ...]) -> MLP:
        return MLP(shape, hidden)

    encoder = Conditional(data.event_shape, (latent,), trunk, DiagonalGaussian)
    decoder = Conditional((latent,), data.event_shape, trunk, Bernoulli)
    vae = VAE(encoder, decoder, StandardNormal((latent,)))
    own = MNIST5k(batch_size=batch_size, batches_per_chunk=50)
    own.serve("binary")

    def run() -> None:
        adam = lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True)  # noqa: E731
        module = VAEModule(vae, ELBO(), adam, ImportanceSampling(), max_steps=STEPS)
        quiet_trainer().fit(module, own)

    return run


def quiet_trainer(max_steps: int = -1) -> pl.Trainer:
    return pl.Trainer(
        max_steps=max_steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )


def matmuls(hidden: int, latent: int, batch_size: int) -> Callable[[], None]:
    sizes = [(784, hidden), (hidden, latent), (hidden, latent), (latent, hidden), (hidden, 784)]
    triples = [(torch.randn(batch_size, a), torch.randn(a, b), torch.randn(batch_size, b)) for a, b in sizes]

    def run() -> None:
        for _ in range(STEPS):
            for i, (x, w, g) in enumerate(triples):
                torch.mm(x, w)
                torch.mm(x.T, g)
                if i:  # the data need no gradient
                    torch.mm(g, w.T)

    return run


def timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / STEPS * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    data = MNIST5k()
    data.serve("binary")
    for name, sizes in NETWORKS.items():
        makers = {"plain loop": plain_loop, "usual Lightning": usual_lightning, "vaelab": vaelab_loop}
        loops = {label: make(data, *sizes) for label, make in makers.items()} | {"matrix products": matmuls(*sizes)}
        rounds = [{label: timed(run) for label, run in loops.items()} for _ in range(options.rounds + 1)][1:]
        table = Table("", "ms per step", "ratio to the plain loop", title=f"{name}, {options.threads} threads, CPU")
        for label in loops:
            ratio = statistics.median(times[label] / times["plain loop"] for times in rounds)
            table.add_row(label, f"{statistics.median(times[label] for times in rounds):.2f}", f"{ratio:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
