"""pythae's VAE with the same layers, trained by its own trainer: a worker of `run.py`, in a separate environment.

    python3.11 -m venv PATH
    PATH/bin/pip install -r benchmarks/requirements-pythae.txt
    python benchmarks/run.py --pythae PATH/bin/python

pythae differs from the other contenders: it has no binarisation, so the Bernoulli likelihood is that of grey values in
[0, 1]; the decoder ends in a sigmoid; Adam is PyTorch's default; and the loss is read after every step. Only the steps
of its training loop are timed. Evaluation, checkpoints and the progress bar are off, and the copy of the best weights
between epochs is not timed.
"""

import logging
import os
import tempfile

os.environ["TQDM_DISABLE"] = "1"

import torch
from pythae.data.datasets import BaseDataset  # pyright: ignore[reportMissingImports]
from pythae.models import VAE, VAEConfig  # pyright: ignore[reportMissingImports]
from pythae.models.base.base_utils import ModelOutput  # pyright: ignore[reportMissingImports]
from pythae.models.nn import BaseDecoder, BaseEncoder  # pyright: ignore[reportMissingImports]
from pythae.trainers import BaseTrainer, BaseTrainerConfig  # pyright: ignore[reportMissingImports]
from pythae.trainers.training_callbacks import TrainingCallback  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn
from worker import Job, Loop, Network, now, serve


class Encoder(BaseEncoder):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.hidden = nn.Linear(784, network.hidden)
        self.mu = nn.Linear(network.hidden, network.latent)
        self.log_variance = nn.Linear(network.hidden, network.latent)

    def forward(self, x: Tensor) -> ModelOutput:
        h = self.hidden(x).tanh()
        return ModelOutput(embedding=self.mu(h), log_covariance=self.log_variance(h))


class Decoder(BaseDecoder):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(network.latent, network.hidden), nn.Linear(network.hidden, 784)

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.out(self.hidden(z).tanh()).sigmoid())


class Timer(TrainingCallback):
    """Add up the time of each epoch, from the start of its first step to the end of its last."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.steps, self.seconds, self.last = 0, 0.0, 0.0

    def on_train_step_begin(self, training_config: BaseTrainerConfig, **_: object) -> None:  # called once an epoch
        self.last = now(self.device)

    def on_train_step_end(self, training_config: BaseTrainerConfig, **_: object) -> None:  # called after every step
        before, self.last = self.last, now(self.device)
        self.steps, self.seconds = self.steps + 1, self.seconds + self.last - before


def make(job: Job) -> Loop:
    logging.getLogger("pythae").setLevel(logging.ERROR)
    data = BaseDataset(job.images() / 255, torch.zeros(len(job.images())))
    config = VAEConfig(input_dim=(784,), latent_dim=job.network.latent, reconstruction_loss="bce")
    model = VAE(config, Encoder(job.network), Decoder(job.network))
    per_epoch = -(-len(data) // job.network.batch_size)

    def loop(steps: int) -> tuple[int, float]:
        timer = Timer(job.device)
        with tempfile.TemporaryDirectory() as folder:
            training = BaseTrainerConfig(
                output_dir=folder,
                per_device_train_batch_size=job.network.batch_size,
                num_epochs=-(-steps // per_epoch),
                learning_rate=1e-3,
                no_cuda=job.device == "cpu",
            )
            BaseTrainer(model, data, training_config=training, callbacks=[timer]).train()
        return timer.steps, timer.seconds

    return loop


if __name__ == "__main__":
    serve(make)
