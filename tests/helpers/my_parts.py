"""One class of each kind, as a package outside of the project has them."""

import math

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
        reconstruction = vae.log_likelihood(x, z)
        bound = reconstruction - kl_divergence(q, vae.latent_prior(), z)
        return Terms(-bound, {"surprise": -reconstruction, "bound": bound})


class MyNetwork(Network):
    def __init__(self, context_shape, event_shape, units):
        super().__init__(context_shape, event_shape, (units,))
        self.linear = nn.Linear(math.prod(context_shape), units)

    def forward(self, context):
        return self.linear(context.flatten(-len(self.context_shape))).sigmoid()


class MyData(Digits):
    name = "my digits"

    def __init__(self, inverted=True, **kwargs):
        self.inverted = inverted
        super().__init__(**kwargs)

    def splits(self):
        splits = super().splits()
        for split in splits.values():
            split.images = 16 - split.images if self.inverted else split.images
        return splits


class MyEstimator:
    name, label, unbiased, part_size = "mine", "my estimator", True, None

    def __init__(self, num_draws):
        self.num_draws = num_draws

    def refusal(self, vae):
        return None

    def __call__(self, vae, x):
        with torch.no_grad():
            z = vae.latent_prior().sample((self.num_draws, len(x)))
            log_weights = vae.log_likelihood(x, z)
        nothing = torch.zeros(len(x))
        found = log_weights.logsumexp(0) - torch.tensor(float(self.num_draws)).log()
        return Estimate(found, nothing, nothing + self.num_draws, nothing)
