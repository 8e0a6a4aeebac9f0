"""The hand-written loops, and the matrix products alone: a worker of `run.py`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from worker import Job, Loop, Network, serve, timed


class PlainVAE(nn.Module):
    """The paper's network, written by hand."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        hidden, latent = network.hidden, network.latent
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


def plain_loop(job: Job, fused: bool | None) -> Callable[[int], None]:
    """Return the plain training loop, with the images as bytes on the device and batches by index."""
    levels = job.images().to(job.device)
    model = PlainVAE(job.network).to(job.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

    def body(steps: int) -> None:
        done = 0
        while done < steps:
            order = torch.randperm(len(levels), device=job.device)
            for indices in order.split(job.network.batch_size)[: steps - done]:
                batch = levels[indices]
                x = (torch.empty_like(batch).random_(0, 255) < batch).float()
                optimizer.zero_grad()
                model.loss(x).backward()
                optimizer.step()
                done += 1

    return body


def products(job: Job) -> Callable[[int], None]:
    """Return the matrix products of a step: forward, and backward for each weight and each input but the first."""
    hidden, latent, batch_size = job.network.hidden, job.network.latent, job.network.batch_size
    sizes = [(784, hidden), (hidden, latent), (hidden, latent), (latent, hidden), (hidden, 784)]
    layers = [
        tuple(torch.randn(shape, device=job.device) for shape in [(batch_size, a), (a, b), (batch_size, b)])
        for a, b in sizes
    ]

    def body(steps: int) -> None:
        for _ in range(steps):
            for i, (x, w, g) in enumerate(layers):
                torch.mm(x, w)
                torch.mm(x.T, g)
                if i:
                    torch.mm(g, w.T)

    return body


def make(job: Job) -> Loop:
    if job.contender == "products":
        return timed(products(job), job)
    return timed(plain_loop(job, fused=None if job.contender == "plain-default" else True), job)


if __name__ == "__main__":
    serve(make)
