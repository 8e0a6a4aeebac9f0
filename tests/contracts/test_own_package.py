"""A package outside of the project adds one of each kind: a class and a YAML, and nothing else anywhere."""

import json
import sys

import pytest
import yaml

from tests.helpers.commands import run_main
from vaelab import evaluate, report, train

MODULE = """
import torch
import torch.distributions as td
from torch import nn

from vaelab.data import Digits
from vaelab.estimators import Estimate
from vaelab.heads import Head
from vaelab.metric import Metric
from vaelab.networks import Network
from vaelab.objectives import Objective, Terms, kl_divergence
from vaelab.priors import Prior


class MyHead(Head):
    pixels, measure = "unit", "density"

    def __init__(self, network, scale):
        super().__init__(network)
        self.loc, self.scale = network.output_layer(), scale

    def forward(self, features):
        loc = self.loc(features)
        return self.independent(td.Laplace(loc, torch.full_like(loc, self.scale), validate_args=False))


class MyPosterior(Head):
    def __init__(self, network):
        super().__init__(network)
        self.loc, self.log_scale = network.output_layer(), network.output_layer()

    def forward(self, features):
        return self.independent(td.Laplace(self.loc(features), self.log_scale(features).exp(), validate_args=False))


class MyPrior(Prior):
    def __init__(self, latent_shape, event_shape):
        super().__init__(latent_shape, event_shape)
        self.loc, self.log_scale = nn.Parameter(torch.zeros(latent_shape)), nn.Parameter(torch.zeros(latent_shape))

    def forward(self, encode):
        return td.Independent(td.Laplace(self.loc, self.log_scale.exp(), validate_args=False), 1, validate_args=False)


class MyObjective(Objective):
    metrics = (Metric("surprise", "surprise", better="lower"), Metric("bound", "my bound", better="higher"))

    def forward(self, vae, x, step):
        q = vae.encode(x)
        z = q.rsample()
        reconstruction = vae.decoder.log_prob(x, z)
        bound = reconstruction - kl_divergence(q, vae.latent_prior(), z)
        return Terms(-bound, {"surprise": -reconstruction, "bound": bound})


class MyNetwork(Network):
    def __init__(self, context_shape, event_shape, units):
        super().__init__(context_shape, event_shape, (units,))
        self.linear = nn.Linear(math.prod(context_shape), units)

    def forward(self, context):
        return self.linear(context.flatten(-len(self.context_shape))).sigmoid()


class MyData(Digits):
    def __init__(self, inverted=True, **kwargs):
        self.inverted = inverted
        super().__init__(**kwargs)
        self.name = "my digits"

    def splits(self):
        splits = super().splits()
        for split in splits.values():
            split.images = 16 - split.images if self.inverted else split.images
        return splits


class MyEstimator:
    name, label, unbiased, part_size = "mine", "my estimator", True, None

    def __init__(self, num_draws):
        self.num_draws = num_draws

    def refusal(self, latent_dim):
        return None

    def __call__(self, vae, x):
        with torch.no_grad():
            z = vae.latent_prior().sample((self.num_draws, len(x)))
            log_weights = vae.decoder.log_prob(x, z)
        nothing = torch.zeros(len(x))
        found = log_weights.logsumexp(0) - torch.tensor(float(self.num_draws)).log()
        return Estimate(found, nothing, nothing + self.num_draws, nothing)
"""


def conditional(head, **more):
    """Return the YAML of an encoder or a decoder."""
    head = {"_target_": f"my_parts.{head}", "_partial_": True, **more}
    return {"_target_": "vaelab.vae.Conditional", "_partial_": True, "head": head}


CHOICES = {
    "decoder": conditional("MyHead", scale=0.2),
    "encoder": conditional("MyPosterior"),
    "prior": {"_target_": "my_parts.MyPrior", "_partial_": True},
    "objective": {"_target_": "my_parts.MyObjective"},
    "network": {"_target_": "my_parts.MyNetwork", "_partial_": True, "units": 8},
    "data": {"_target_": "my_parts.MyData", "inverted": True, "pixels": None, "binarize": "dynamic", "seed": 0},
    "estimator": {"_target_": "my_parts.MyEstimator", "num_draws": 4},
}
LINE = (
    *("--config-dir=my_conf", *(f"{group}=mine" for group in CHOICES)),
    *("latent_dim=2", "trainer.max_epochs=1", "logger=none"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give a folder with the package `my_parts` and its choices in `my_conf`, as a user's own project has them."""
    (tmp_path / "my_parts.py").write_text(MODULE)
    for group, node in CHOICES.items():
        (tmp_path / "my_conf" / group).mkdir(parents=True)
        (tmp_path / "my_conf" / group / "mine.yaml").write_text(yaml.safe_dump(node))
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return tmp_path


def test_a_run_trains_and_is_evaluated_with_trust(folder):
    run = run_main(train.main, folder, *LINE)
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert {"test/elbo", "test/bound", "test/log_likelihood"} <= metrics.keys()
    assert json.loads((run.path / "record.json").read_text())["data"]["name"] == "my digits"
    assert list((run.path / "figures").iterdir())
    refused = run_main(evaluate.main, folder, f"run_dir={run.path}", "rerun=true", code=1)
    assert "trust=[my_parts]" in refused.err
    again = run_main(evaluate.main, folder, f"run_dir={run.path}", "rerun=true", "trust=[my_parts]")
    assert "my estimator" in again.out
    other = run_main(evaluate.main, folder, f"run_dir={run.path}", "estimator=importance", "trust=[my_parts]")
    assert "importance" in other.out


@pytest.mark.slow
def test_a_sweep_of_them_is_reported(folder):
    run_main(train.main, folder, "-m", *LINE, "latent_dim=2,3", "sweep.name=mine", "~callbacks.figures")
    run_main(report.main, folder, "sweep=logs/sweeps/mine")
    told = json.loads((folder / "logs" / "sweeps" / "mine" / "report.json").read_text())
    assert told["jobs"] == {"done": 2}
    (group,) = told["groups"]
    assert "my digits" in group["title"]
    assert "MyEstimator" in group["title"]
    assert {row["rank"] for row in told["rows"]} == {1, 2}
    held = told["settings_held_equal"]
    for name, node in CHOICES.items():
        target = node.get("head", node)["_target_"]
        assert target in held.values(), name
