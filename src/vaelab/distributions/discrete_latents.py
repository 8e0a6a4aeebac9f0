"""Distributions of a discrete latent, and their continuous relaxations for training."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints, relaxed_categorical
from torch.nn.functional import softplus

from vaelab.distributions.logistic import Logistic
from vaelab.randomness import standard_normal


def bernoullis(logits: Tensor, temperature: float, relaxed: bool) -> td.Independent:
    """Return d independent Bernoullis, or their relaxation: Maddison, Mnih & Teh (2017); Jang, Gu & Poole (2017).

    The relaxation of z is sigmoid(y), and this is the distribution of y, because its density does not overflow:
    `y = (logits + L) / temperature` with logistic noise L, so y is logistic too.

    Args:
        logits: `[*batch, d]`.
        temperature: near 0, sigmoid(y) is nearly 0 or 1; only the relaxation has one.
        relaxed: whether to return the relaxation.
    """
    if relaxed:
        scale = torch.full_like(logits, 1 / temperature)
        return td.Independent(Logistic(logits / temperature, scale, validate_args=False), 1, validate_args=False)
    return td.Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)


def categoricals(logits: Tensor, temperature: float, relaxed: bool) -> "Flattened":
    """Return N independent categoricals as one-hot vectors in a row, `[*batch, N * K]`, or their relaxation.

    The relaxation of a one-hot z is exp(y), where y is `ExpRelaxedCategorical`.

    Args:
        logits: `[*batch, N, K]`.
        temperature: near 0, exp(y) is nearly one-hot; only the relaxation has one.
        relaxed: whether to return the relaxation.
    """
    if relaxed:
        return Flattened(ExpRelaxedCategorical(logits, temperature))
    return Flattened(OneHotCategorical(logits))


class Bernoulli(td.Bernoulli):
    """`torch.distributions.Bernoulli`, with a KL whose arguments may have different batch shapes."""


@td.kl.register_kl(Bernoulli, Bernoulli)
def _kl_of_bernoullis(q: Bernoulli, p: Bernoulli) -> Tensor:
    """Return `q (l_q - l_p) - log(1 + exp(l_q)) + log(1 + exp(l_p))`, elementwise, with logits l and probability q."""
    return q.probs * (q.logits - p.logits) - softplus(q.logits) + softplus(p.logits)


class OneHotCategorical(td.OneHotCategorical):
    """PyTorch's `OneHotCategorical`, whose constructor reads values back, because it always validates its logits."""

    def __init__(self, logits: Tensor) -> None:
        self._categorical = td.Categorical(logits=logits, validate_args=False)
        td.Distribution.__init__(self, logits.shape[:-1], logits.shape[-1:], validate_args=False)


@td.kl.register_kl(OneHotCategorical, OneHotCategorical)
def _kl_of_one_hots(q: OneHotCategorical, p: OneHotCategorical) -> Tensor:
    """Return `sum_k q_k (l_qk - l_pk)`; PyTorch's is infinite where a probability p_k underflows to 0."""
    return (q.probs * (q.logits - p.logits)).sum(-1)


class ExpRelaxedCategorical(relaxed_categorical.ExpRelaxedCategorical):
    """PyTorch's `ExpRelaxedCategorical`, without validation; in `rsample`, each of several stacked models draws alone.

    `y = s - logsumexp(s)`, `s = (logits + G) / temperature`, with Gumbel noise G. The density is that of y on the set
    where exp(y) sums to 1 (Maddison et al. 2017, appendix C.3); that of exp(y) overflows at low temperatures.
    """

    def __init__(self, logits: Tensor, temperature: float) -> None:
        self._categorical = td.Categorical(logits=logits, validate_args=False)
        self.temperature = logits.new_full((), temperature)
        td.Distribution.__init__(self, logits.shape[:-1], logits.shape[-1:], validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        noise = standard_normal(self._extended_shape(torch.Size(sample_shape)), self.logits)
        # -log Phi(noise) is exponential; use the smaller tail, because the larger one may round to 1
        tail = 0.5 * torch.erfc(noise.abs() / math.sqrt(2))
        exponential = torch.where(noise > 0, -torch.log1p(-tail), -tail.log())
        return ((self.logits - exponential.log()) / self.temperature).log_softmax(-1)


class Flattened(td.Distribution):
    """N independent vectors of K elements in a row, as one vector of N * K elements.

    Args:
        vectors: their distribution, of batch shape `[*batch, N]` and event shape `[K]`.

    Examples:
        >>> q = Flattened(td.OneHotCategorical(torch.ones(5, 3, 4)))
        >>> q.event_shape, q.log_prob(q.sample()).shape
        (torch.Size([12]), torch.Size([5]))
    """

    arg_constraints: ClassVar = {}  # type: ignore[override]

    def __init__(self, vectors: td.Distribution) -> None:
        self.vectors = vectors
        self.has_rsample = vectors.has_rsample
        *batch, num_vectors = vectors.batch_shape
        super().__init__(torch.Size(batch), torch.Size([num_vectors * vectors.event_shape[0]]), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return InGroups(self.vectors.support, self.vectors.event_shape[0])

    @property
    def mean(self) -> Tensor:
        return self.vectors.mean.flatten(-2)

    @property
    def variance(self) -> Tensor:
        return self.vectors.variance.flatten(-2)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.vectors.sample(torch.Size(sample_shape)).flatten(-2)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.vectors.rsample(torch.Size(sample_shape)).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.vectors.log_prob(value.unflatten(-1, (-1, self.vectors.event_shape[0]))).sum(-1)


class InGroups(constraints.Constraint):
    """Vectors whose groups of K consecutive elements each satisfy a constraint."""

    event_dim = 1

    def __init__(self, of_group: Any, size: int) -> None:
        self.of_group, self.size = of_group, size
        self.is_discrete = of_group.is_discrete

    def check(self, value: Tensor) -> Tensor:
        return self.of_group.check(value.unflatten(-1, (-1, self.size))).all(-1)

    def __repr__(self) -> str:
        return f"groups of {self.size}, each {self.of_group}"


@td.kl.register_kl(Flattened, Flattened)
def _kl_of_flattened(q: Flattened, p: Flattened) -> Tensor:
    """Return the sum of the KL of the vectors."""
    return td.kl_divergence(q.vectors, p.vectors).sum(-1)
