"""A part that breaks its contract is refused in one line: its class, what it returned, and what it should return."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributions as td
from torch import Tensor, nn

from tests.helpers.commands import FAILURE, USAGE, Run, assert_one_line
from vaelab.errors import ConfigError
from vaelab.estimators import Estimate
from vaelab.heads import Bernoulli, DiagonalGaussian, FixedScale, Head, PerPixelScale
from vaelab.metric import Metric
from vaelab.networks import MLP, Network
from vaelab.objectives import ELBO, Objective, Terms
from vaelab.objectives.base import BOUND
from vaelab.priors import Prior, StandardNormal
from vaelab.runs import cli
from vaelab.runs.build import try_out
from vaelab.runs.model import build_objective, check_estimator
from vaelab.runs.probes.model import DRAWS, check_model, probing
from vaelab.training import Schedule
from vaelab.vae import VAE, Conditional, make_vae

IMAGE, LATENT = (1, 4, 5), 3
HERE = __name__
gaussian = partial(DiagonalGaussian, scale=PerPixelScale)


class Plain(Head):
    """A head that is right; those below change one thing each."""

    pixels, measure = "binary", "mass"

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.layer = network.output_layer()

    def forward(self, features: Tensor) -> Any:
        return self.of(self.layer(features))

    def of(self, output: Tensor) -> Any:
        return self.independent(td.Bernoulli(logits=output, validate_args=False))


class Posterior(Plain):
    def of(self, output: Tensor) -> Any:
        return self.independent(td.Normal(output, 1.0, validate_args=False))


class Dense(Network):
    """A network that is right."""

    def __init__(self, context_shape: Any, event_shape: Any) -> None:
        super().__init__(context_shape, event_shape, (6,))
        self.linear = nn.Linear(math.prod(context_shape), 6)

    def forward(self, context: Tensor) -> Any:
        return self.linear(context.flatten(-len(self.context_shape)))


class Wide(Prior):
    """A prior that is right."""

    def __init__(self, latent_shape: Any, event_shape: Any) -> None:
        super().__init__(latent_shape, event_shape)
        self.loc = nn.Parameter(torch.zeros(*latent_shape))

    def forward(self, encode: Any) -> Any:
        return td.Independent(td.Normal(self.loc, 2.0, validate_args=False), 1)


class Half(Objective):
    """An objective that is right."""

    metrics = (Metric("half", "half"), Metric("step", "step"))

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Any:
        elbo = ELBO()(vae, x, step)
        return self.of(elbo.loss, {"half": elbo.loss.detach() / 2, "step": step.expand(len(x))})

    def of(self, loss: Tensor, metrics: dict[str, Tensor]) -> Any:
        return Terms(loss, metrics)


class Zero:
    """An estimator that is right."""

    name, label, unbiased, part_size = "zero", "zero", False, None

    def refusal(self, vae: VAE) -> Any:
        return None

    def __call__(self, vae: VAE, x: Tensor) -> Any:
        return self.of(vae.encode(x).sample().sum(-1))

    def of(self, values: Tensor) -> Any:
        return Estimate(values, values, values, values)


def made(kind: type, **methods: Any) -> Any:
    """Return a class that is called Wrong and differs from `kind` in some members."""
    return type("Wrong", (kind,), {"__module__": HERE, **methods})


def returning(kind: type, of: Callable[..., Any], method: str = "of") -> Any:
    return made(kind, **{method: of})


def vae_of(
    encoder: Any = gaussian, decoder: Any = Bernoulli, prior: Any = StandardNormal, e: Any = Dense, d: Any = Dense
) -> VAE:
    parts = [partial(Conditional, head=head) for head in (encoder, decoder)]
    return make_vae(IMAGE, LATENT, *parts, prior, probing(e, "encoder.network"), probing(d, "network", DRAWS))


def unchecked(kind: type, **fields: Any) -> Any:
    """Make a dataclass without the checks of types that only tests have."""
    found = object.__new__(kind)
    vars(found).update(fields)
    return found


def terms(loss: Any, metrics: Any) -> Any:
    return unchecked(Terms, loss=loss, metrics=metrics)


def estimate(values: Tensor, **fields: Any) -> Any:
    names = ("log_likelihood", "standard_error", "effective_sample_size", "bias")
    return unchecked(Estimate, **dict.fromkeys(names, values) | fields)


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        call()
    (line,) = str(caught.value).splitlines()
    return line


def test_right_parts_pass_and_nothing_changes() -> None:
    before = torch.get_rng_state()
    vae = vae_of(Posterior, Plain, Wide)
    drawn = torch.get_rng_state()
    torch.set_rng_state(before)
    make_vae(IMAGE, LATENT, *(partial(Conditional, head=head) for head in (Posterior, Plain)), Wide, Dense, Dense)
    assert torch.equal(torch.get_rng_state(), drawn)  # a network's probe draws nothing
    counting = vae_of(decoder=partial(DiagonalGaussian, scale=partial(PerPixelScale, min_scale=0.1)))
    counting.decoder.head.pixels, counting.decoder.head.measure = "unit", "density"
    for one in (vae, counting):
        drawn = torch.get_rng_state()
        check_model(one)
        build_objective({"_target_": f"{HERE}.Half"}, 1, one)
        check_estimator(Zero(), one)
        assert torch.equal(torch.get_rng_state(), drawn)
        assert one.training
    assert counting.decoder.head.monitors() == {"scale_at_floor": 0}


WANTED = "expected a distribution with event_shape (1, 4, 5) and batch_shape (11, 13)"
RAW = "(11, 13, 1, 4, 5)"
HEADS = {
    "bare": (
        lambda self, output: td.Normal(output, 1.0),
        f"forward returned a Normal with event_shape () and batch_shape {RAW}: {WANTED}; type self.independent(...)",
    ),
    "tensor": (
        lambda self, output: output,
        f"forward returned a tensor of shape {RAW}: {WANTED}; return one, such as self.independent(...)",
    ),
    "tuple": (lambda self, output: (output, output), f"forward returned a tuple: {WANTED}"),
    "none": (lambda self, output: None, f"forward returned None: {WANTED}"),
    "flat": (
        lambda self, output: td.Independent(td.Normal(output.flatten(-3), 1.0), 1),
        f"returned an Independent with event_shape (20,) and batch_shape (11, 13): {WANTED}",
    ),
    "summed": (
        lambda self, output: td.Independent(td.Normal(output, 1.0), 4),
        f"returned an Independent with event_shape (13, 1, 4, 5) and batch_shape (11,): {WANTED}; type self.",
    ),
    "fails": (
        lambda self, output: output.loc,
        "raised AttributeError: 'Tensor' object has no attribute 'loc' at",
        "test_probes.py:",
        "HYDRA_FULL_ERROR=1",
    ),
    "mixes": (
        lambda self, output: self.independent(td.Normal(output.softmax(1), 0.1)),
        "forward returned another distribution of an example in a batch than alone",
    ),
    "no support": (
        lambda self, output: NoSupport(Plain.of(self, output)),
        "returned a NoSupport with event_shape (1, 4, 5) and batch_shape (11, 13): expected one with a support",
    ),
    "log_prob of elements": (
        lambda self, output: Elementwise(Plain.of(self, output)),
        f"forward(...).log_prob returned a tensor of shape {RAW}: expected a tensor of shape (11, 13); sum over",
    ),
    "no sample": (
        lambda self, output: td.Distribution((11, 13), IMAGE, validate_args=False),
        "forward(...).sample raised NotImplementedError",
    ),
}


class NoSupport(td.Distribution):
    def __init__(self, p: Any) -> None:
        super().__init__(p.batch_shape, p.event_shape, validate_args=False)
        self.p = p

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.p.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.p.log_prob(value)


class Elementwise(NoSupport):
    def log_prob(self, value: Tensor) -> Tensor:
        return self.p.base_dist.log_prob(value)


@pytest.mark.parametrize("mistake", HEADS)
def test_a_wrong_head_is_one_line(mistake: str) -> None:
    of, *words = HEADS[mistake]
    line = refusal(lambda: check_model(vae_of(decoder=returning(Plain, of))))
    assert line.startswith(f"{HERE}.Wrong.")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"pixels": None}, "declares pixels=None: expected pixels to be one of 'binary', 'unit', 'levels'"),
        ({"pixels": "grey"}, "declares pixels='grey': expected pixels to be one of"),
        ({"pixels": "unit"}, "declares measure='mass': expected measure='density' for pixels='unit'"),
        ({"measure": None}, "declares measure=None: expected measure='mass' for pixels='binary'"),
    ],
)
def test_wrong_pixels_of_a_head_are_one_line(declared: dict[str, Any], words: str) -> None:
    line = refusal(lambda: check_model(vae_of(decoder=made(Plain, **declared))))
    assert line.startswith(f"{HERE}.Wrong {words}")


def pooled(self: Any, context: Tensor) -> Tensor:
    features = Dense.forward(self, context)
    return features - features.mean(-2, keepdim=True)


NETWORKS = {
    "features": (
        {"forward": lambda self, context: Dense.forward(self, context)[..., :5]},
        "forward returned a tensor of shape (11, 13, 5): expected a tensor of shape (11, 13, 6); from contexts",
    ),
    "not flat": ({"forward": lambda self, context: self.linear(context)[0]}, "returned a tensor of shape (13, 6)"),
    "one leading dimension": (
        {"forward": lambda self, context: self.linear(context.flatten(1))},
        "raised RuntimeError: mat1 and mat2 shapes cannot be multiplied (11x39 and 3x6) at",
    ),
    "tuple": ({"forward": lambda self, context: (context, context)}, "returned a tuple: expected a tensor of shape"),
    "mixes": ({"forward": pooled}, "forward returned other features of an example in a batch than alone"),
    "layer": (
        {"output_layer": lambda self, per="element", numbers=None: nn.Linear(6, 20)},
        "output_layer('element',)(features) returned a tensor of shape (11, 13, 20): expected a tensor of shape "
        "(11, 13, 1, 4, 5)",
    ),
    "no layer": (
        {"output_layer": lambda self, per="element", numbers=None: None},
        "output_layer('element',)(features) raised TypeError: 'NoneType' object is not callable",
    ),
    "shapes": (
        {"__init__": lambda self, context, event: Dense.__init__(self, event, context)},
        "has the context_shape (1, 4, 5) and the event_shape (3,), expected (3,) and (1, 4, 5): type super().__init__",
    ),
}


@pytest.mark.parametrize("mistake", NETWORKS)
def test_a_wrong_network_is_one_line(mistake: str) -> None:
    members, words = NETWORKS[mistake]
    line = refusal(lambda: vae_of(d=made(Dense, **members)))
    assert line.startswith(HERE)
    assert words in line


def test_a_network_without_output_layers_is_one_line() -> None:
    line = refusal(lambda: vae_of(e=lambda *shapes: nn.Linear(20, 6)))
    assert line == ("encoder.network._target_ must give an instance of Network, found a torch.nn.modules.linear.Linear")


def test_a_part_that_waits_for_more_arguments_is_one_line() -> None:
    line = refusal(lambda: build_objective({"_target_": f"{HERE}.Half", "_partial_": True}, 1, vae_of()))
    assert line == ("objective._target_ must give an instance of Objective, found a partial: type ~objective._partial_")


def keeping(self: Any, encode: Any) -> Any:
    self.encode = encode
    return Wide.forward(self, encode)


OF_PRIOR = (
    "forward returned a Normal with event_shape () and batch_shape (3,): expected a distribution with event_shape"
)
PRIORS = {
    "bare": (lambda self, encode: td.Normal(self.loc, 1.0), f"{OF_PRIOR} (3,) and batch_shape (); type td.Independent"),
    "event": (
        lambda self, encode: td.Independent(td.Normal(self.loc[:2], 1.0), 1),
        "returned an Independent with event_shape (2,) and batch_shape (): expected a distribution with event_shape",
    ),
    "batch": (
        lambda self, encode: td.Independent(td.Normal(self.loc[None], 1.0), 1),
        "returned an Independent with event_shape (3,) and batch_shape (1,): expected a distribution",
    ),
    "tensor": (lambda self, encode: self.loc, "returned a tensor of shape (3,): expected a distribution"),
    "bounded": (
        lambda self, encode: td.Independent(td.Uniform(self.loc - 1, self.loc + 1), 1),
        "expected q(z|x) and p(z) over one set, found Real() and Interval(",
    ),
    "keeps the encoder": (keeping, "keeps encode.network.linear.weight of the encoder: call the encoder, but do not"),
    "encodes z": (
        lambda self, encode: encode(self.loc[None]),
        "Wrong.forward raised IndexError: Dimension out of range",
    ),
}


@pytest.mark.parametrize("mistake", PRIORS)
def test_a_wrong_prior_is_one_line(mistake: str) -> None:
    forward, words = PRIORS[mistake]
    line = refusal(lambda: check_model(vae_of(prior=made(Wide, forward=forward))))
    assert words in line
    assert f"{HERE}." in line


def test_a_posterior_without_rsample_is_refused_where_it_is_needed() -> None:
    line = refusal(lambda: build_objective({"_target_": "vaelab.objectives.ELBO"}, 1, vae_of(encoder=Plain)))
    assert "ELBO needs samples of q(z|x) that carry a gradient: type encoder=gaussian, or objective=rws" in line
    assert f"have {HERE}.Plain.forward return a distribution with rsample" in line
    build_objective({"_target_": "vaelab.objectives.ReweightedWakeSleep"}, 1, vae_of(encoder=Plain))


OBJECTIVES = {
    "tensor": ({"of": lambda self, loss, metrics: loss}, "returned a tensor of shape (13,): expected vaelab"),
    "mean": (
        {"of": lambda self, loss, metrics: terms(loss.mean(), metrics)},
        "returned a tensor of shape (): expected a tensor of shape (13,); it is the loss of 13 examples: give a",
    ),
    "mean of a metric": (
        {"of": lambda self, loss, metrics: terms(loss, metrics | {"half": loss.mean()})},
        "returned a tensor of shape (): expected a tensor of shape (13,); it is the half of 13 examples",
    ),
    "number": (
        {"of": lambda self, loss, metrics: terms(loss, metrics | {"half": 0.5})},
        "returned a float: expected a tensor",
    ),
    "undeclared": (
        {"of": lambda self, loss, metrics: terms(loss, metrics | {"more": loss})},
        "returned the metrics half, more, step: expected half, step, which the class declares in its attribute metrics",
    ),
    "missing": (
        {"of": lambda self, loss, metrics: terms(loss, {})},
        "returned the metrics (none): expected half, step",
    ),
    "list": ({"of": lambda self, loss, metrics: terms(loss, [loss])}, "returned a list: expected a dict of the"),
    "none": (
        {"of": lambda self, loss, metrics: None},
        "returned None: expected vaelab.objectives.Terms; return Terms(",
    ),
    "detached": (
        {"of": lambda self, loss, metrics: terms(loss.detach(), metrics)},
        "forward returned a loss without a gradient",
    ),
    "names": ({"metrics": ("half", "step")}, "declares the metric 'half', expected a vaelab.metric.Metric"),
    "fails": ({"of": lambda self, loss, metrics: 1 / 0}, "raised ZeroDivisionError: division by zero at"),
    "needs a gradient in the test": (
        {
            "metrics": (BOUND,),
            "of": lambda self, loss, metrics: terms(loss, {"bound": torch.autograd.grad(loss.sum(), loss)[0]}),
        },
        "raised RuntimeError: element 0 of tensors does not require grad",
    ),
}


@pytest.mark.parametrize("mistake", OBJECTIVES)
def test_a_wrong_objective_is_one_line(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    members, words = OBJECTIVES[mistake]
    monkeypatch.setitem(globals(), "Wrong", made(Half, **members))
    line = refusal(lambda: build_objective({"_target_": f"{HERE}.Wrong"}, 1, vae_of()))
    assert line.startswith(f"{HERE}.")
    assert words in line


ESTIMATORS = {
    "tensor": (lambda self, values: values, "returned a tensor of shape (13,): expected vaelab.estimators.Estimate"),
    "mean": (
        lambda self, values: estimate(values, log_likelihood=values.mean()),
        "returned a tensor of shape (): expected a tensor of shape (13,); it is the log_likelihood of 13 examples",
    ),
    "samples": (
        lambda self, values: estimate(values, standard_error=torch.zeros(4, 13)),
        "returned a tensor of shape (4, 13): expected a tensor of shape (13,); it is the standard_error of 13 examples",
    ),
    "nothing": (lambda self, values: estimate(values, log_likelihood=None), "returned None: expected a tensor"),
    "fails": (lambda self, values: values.nothing, "raised AttributeError: 'Tensor' object has no attribute"),
}


@pytest.mark.parametrize("mistake", ESTIMATORS)
def test_a_wrong_estimator_is_one_line(mistake: str) -> None:
    of, words = ESTIMATORS[mistake]
    line = refusal(lambda: check_estimator(returning(Zero, of)(), vae_of()))
    assert line.startswith(f"{HERE}.")
    assert words in line


@pytest.mark.parametrize(
    ("optimizer", "schedule", "words"),
    [
        (lambda parameters: None, None, "optimizer._target_ must give an instance of Optimizer, found"),
        (
            torch.optim.SGD,
            partial(torch.optim.lr_scheduler.StepLR, step_size=1),
            "lr_schedule._target_ must be vaelab.train",
        ),
        (lambda parameters: 1 / 0, None, "raised ZeroDivisionError: division by zero at"),
        (partial(torch.optim.SGD, lr="fast"), None, "(in the configuration of the optimizer; HYDRA_FULL_ERROR=1"),
        (torch.optim.SGD, Schedule(partial(torch.optim.lr_scheduler.StepLR)), "missing 1 required positional argument"),
    ],
)
def test_a_wrong_optimizer_or_schedule_is_one_line(optimizer: Any, schedule: Any, words: str) -> None:
    assert words in refusal(lambda: try_out(optimizer, schedule, vae_of()))


class Bare(Plain):
    def of(self, output: Tensor) -> Any:
        return td.Normal(output, 1.0, validate_args=False)


def test_a_command_refuses_a_wrong_part_before_any_work(
    run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"decoder.head._target_={HERE}.Bare"
    words = "expected a distribution with event_shape (1, 8, 8) and batch_shape (11, 13); type self.independent(...)"
    assert_one_line(run_fast(line, code=USAGE), f"{HERE}.Bare.forward returned a Normal with event_shape ()", words)
    assert not list(tmp_path.glob("logs/runs/*"))
    monkeypatch.setattr(Bare, "of", lambda self, output: output.loc)
    monkeypatch.setattr(cli, "WANTS_TRACEBACK", True)  # HYDRA_FULL_ERROR=1
    assert "return self.of(self.layer(features))" in run_fast(line, code=FAILURE).err


def test_parts_of_vaelab_are_not_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(Bernoulli, "forward", lambda self, features: calls.append(features))
    fixed = partial(DiagonalGaussian, scale=partial(FixedScale, value=1.0))
    mlp = partial(MLP, hidden_features=6)
    check_model(vae_of(encoder=fixed, e=mlp, d=mlp))
    assert not calls
