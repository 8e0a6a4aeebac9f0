"""Objectives that do not penalise a part of the KL, or pull it towards a given size."""

import torch
from torch import Tensor

from vaelab.objectives.base import PerExample, at_least_0, at_least_1, closed_form_kl, kl_per_dimension
from vaelab.objectives.elbo import Parts, Penalised
from vaelab.vae import VAE


class FreeBits(Penalised):
    """Free bits: Kingma et al. (2016), in the variant with minibatch means.

    The loss is `-E_q[log p(x|z)] + sum_g max(free_nats, mean KL_g)`, where g is a group of latent dimensions, and the
    mean is over the minibatch. A group below the limit gets no gradient from its KL, so that it is not switched off.
    Since the mean decides, the examples of a minibatch are coupled.

    Args:
        free_nats: the limit of each group, in nats.
        group_size: the number of consecutive latent dimensions in a group; the last group may be smaller.
        num_samples: samples of z per example.

    Raises:
        ValueError: `free_nats` is negative, or a count is below 1.
    """

    couples_batch = True

    def __init__(self, free_nats: float = 0.5, group_size: int = 1, num_samples: int = 1) -> None:
        super().__init__(num_samples=num_samples)
        at_least_1(group_size=group_size)
        at_least_0(free_nats=free_nats)
        self.free_nats, self.group_size = free_nats, group_size

    def refusal(self, vae: VAE) -> str | None:
        """Refuse a model whose KL is no sum over latent dimensions in closed form."""
        if kl_per_dimension(vae.encode(vae.blank()), vae.latent_prior()) is None:
            return "needs the KL of each latent dimension, so type model=vae encoder=gaussian prior=standard_normal"
        return None

    def penalty(self, parts: Parts, step: Tensor) -> PerExample:
        kl = kl_per_dimension(parts.q, parts.p, parts.z)
        assert kl is not None
        groups = [group.sum(-1) for group in kl.split(self.group_size, -1)]
        limited = [group.where(group.mean() > self.free_nats, self.free_nats) for group in groups]
        return torch.stack(limited).sum(0)


class Capacity(Penalised):
    """A KL of growing size: Burgess et al. (2018), applied to each example.

    The loss is `-E_q[log p(x|z)] + gamma |KL - C|`, where C rises linearly from 0 to `capacity` in `steps` steps.

    Args:
        capacity: the final C, in nats.
        steps: the number of optimiser steps until C is reached.
        gamma: the weight of the difference.
        closed_form, num_samples: as for `ELBO`.

    Raises:
        ValueError: `capacity` or `gamma` is negative, or a count is below 1.
    """

    def __init__(
        self,
        capacity: float = 25.0,
        steps: int = 100_000,
        gamma: float = 1000.0,
        closed_form: bool = True,
        num_samples: int = 1,
    ) -> None:
        super().__init__(closed_form, num_samples)
        at_least_1(steps=steps)
        at_least_0(capacity=capacity, gamma=gamma)
        self.capacity, self.steps, self.gamma = capacity, steps, gamma

    def refusal(self, vae: VAE) -> str | None:
        """Refuse a KL that is estimated from samples, because the mean of |KL - C| also measures their noise."""
        with vae.mode(training=True):  # in which alone a relaxed posterior has no closed form
            kl = closed_form_kl(vae.encode(vae.blank()), vae.latent_prior())
        if self.closed_form and kl is not None:
            return None
        return "needs the KL in closed form: type encoder=gaussian prior=standard_normal objective.closed_form=true"

    def penalty(self, parts: Parts, step: Tensor) -> PerExample:
        capacity = self.capacity * (step / self.steps).clamp_max(1)
        return self.gamma * (parts.kl - capacity).abs()
