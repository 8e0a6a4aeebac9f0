"""The compiled step has the numbers of the uncompiled step, for each model and whatever changes between two steps.

`test_compiled.py` runs these tests, in a process without the type checks of the tests, which cannot be compiled.
"""

import shutil
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from tests.helpers.choices import choices
from tests.helpers.training import Fitted, fit
from vaelab.training import VAEModule

# SGD keeps rounding small, where Adam may turn the sign of a gradient near 0 into a whole step
LINE = ("trainer.max_steps=4", "optimizer._target_=torch.optim.SGD", "optimizer.lr=0.01")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace the function as `torch.compile` does, but run it without a C++ compiler, which takes no time."""
    real = torch.compile

    def uncompiled(function: Callable[..., Any], options: dict[str, Any], **kwargs: Any) -> Any:
        guards = {name: value for name, value in options.items() if name == "guard_filter_fn"}
        return real(function, **kwargs | {"backend": "eager", "options": guards})

    monkeypatch.setattr(torch, "compile", uncompiled)


def before_each_call(change: Callable[[VAEModule], Any]) -> Callable[[VAEModule], None]:
    """Return how to prepare a module such that `change` is called before each Lightning step."""

    def prepare(module: VAEModule) -> None:
        take = module.take_steps

        def changing(minibatches: Any) -> Any:
            change(module)
            return take(minibatches)

        module.take_steps = changing

    return prepare


def assert_same(compiled: Fitted, plain: Fitted) -> None:
    for name, value in plain.state.items():
        torch.testing.assert_close(compiled.state[name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert compiled.module.latest == pytest.approx(plain.module.latest, rel=1e-5)
    assert compiled.curve("val/elbo")[0][1] == pytest.approx(plain.curve("val/elbo")[0][1], rel=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_step_trains_like_the_plain_one() -> None:
    line = ("decoder=gaussian_optimal", "weight_prior=normal", "optimizer.lr=1e-4")
    assert_same(fit("compile=true", *LINE, *line), fit(*LINE, *line))


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "line",
    [
        ("decoder=bernoulli", "objective.num_samples=3", "batch_size=300"),
        ("decoder=gaussian_optimal", "gradient_clip=norm", "optimizer.lr=1e-4"),  # has a running scale
        ("decoder=logistic", "network=conv", "batch_size=300", "optimizer.lr=1e-4"),
        ("model=shared", "objective.closed_form=false"),
        ("network=gated_conv", "network@encoder.network=residual", "batch_size=300", "optimizer.lr=1e-4"),
        ("network.normalization=LayerNorm", "network.residual=true", "hidden_features=[8,8]", "optimizer.lr=1e-4"),
        ("model=hierarchical", "objective=dreg", "optimizer.lr=1e-4"),
        ("encoder=iaf", "objective=stl"),
        ("encoder=spline", "prior=flow", "optimizer.lr=1e-4"),
        ("encoder=mixture", "decoder=mixture_of_bernoullis"),
        ("prior=vamp", "prior.num_pseudo_inputs=5"),
        ("prior=mixture", "prior.num_components=3"),
        ("decoder=mixture", "optimizer.lr=1e-4"),
        ("decoder=zero_inflated_poisson", "optimizer.lr=1e-6"),
        ("encoder=relaxed_bernoulli", "prior=bernoulli", "estimator=importance"),
        (
            "encoder=relaxed_categorical",
            "prior=categorical",
            "prior.learned=true",
            "estimator=importance",
            "latent_dim=20",
        ),
        ("encoder=full", "prior=normal", "objective=iwae", "objective.num_samples=3", "optimizer.lr=1e-4"),
    ],
    ids=" ".join,
)
def test_the_traced_function_trains_like_the_plain_step(line: tuple[str, ...]) -> None:
    assert_same(fit("compile=true", *LINE, *line), fit(*LINE, *line))


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", sorted({*choices("objective")} - {"elbo", "warm_up", "miwae"}))  # variants of others
def test_each_objective_trains_compiled_as_uncompiled(name: str) -> None:
    line = (*LINE, f"objective={name}", "optimizer.lr=1e-4")
    assert_same(fit("compile=true", *line), fit(*line))


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "line",
    [
        ("Adam", "+optimizer.eps=0.01", "lr_schedule=warmup", "gradient_clip=norm", "gradient_clip.max_norm=1"),
        ("AdamW", "+optimizer.eps=0.01", "+optimizer.weight_decay=0.1", "gradient_clip=value"),
        ("Adagrad", "+optimizer.initial_accumulator_value=1", "+optimizer.lr_decay=0.1"),
        ("RMSprop", "~optimizer.fused", "+optimizer.momentum=0.9", "optimizer.lr=1e-4"),
        ("SGD", "+optimizer.momentum=0.9", "steps_per_call=2", "optimizer.lr=1e-3"),
    ],
    ids=" ".join,
)
def test_a_compiled_update_is_that_of_the_optimiser(line: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    line = ("trainer.max_steps=20", f"optimizer._target_=torch.optim.{line[0]}", *line[1:])
    assert_same(fit("compile=true", *line), fit(*line))
    assert "update is" not in caplog.text


@pytest.mark.usefixtures("traced")
def test_an_optimiser_that_begins_with_a_state_compiles(caplog: pytest.LogCaptureFixture) -> None:
    line = ("trainer.max_steps=20", "optimizer=adam_from", "gradient_clip=unit", "initialization=glorot")
    assert_same(fit("compile=true", *line), fit(*line))
    assert "update is" not in caplog.text


class Adaptive:
    """Clips each gradient to a share of its parameter's norm."""

    def __call__(self, parameters: Iterable[Tensor]) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                limit = 0.01 * parameter.detach().norm()
                parameter.grad.mul_((limit / (parameter.grad.norm() + 1e-6)).clamp_max(1))


@pytest.mark.usefixtures("traced")
def test_a_clip_sees_the_parameters() -> None:
    def clip(module: VAEModule) -> None:
        module.gradient_clip = Adaptive()

    assert_same(fit("compile=true", *LINE, prepare=clip), fit(*LINE, prepare=clip))


@pytest.mark.usefixtures("traced")
def test_a_clip_that_branches_leaves_the_update_to_the_optimiser(caplog: pytest.LogCaptureFixture) -> None:
    line = (*LINE, "gradient_clip=norm", "+gradient_clip.error_if_nonfinite=true")
    assert_same(fit("compile=true", *line), fit(*line))
    assert "its gradient_clip cannot be compiled" in caplog.text


@pytest.mark.usefixtures("traced")
def test_parameters_that_are_unfrozen_are_trained(caplog: pytest.LogCaptureFixture) -> None:
    def thaw(module: VAEModule) -> None:
        module.vae.encoder.requires_grad_(module.steps >= 4)

    thaw_later = before_each_call(thaw)
    line = ("trainer.max_steps=10", "+optimizer.eps=0.01", "steps_per_call=2")
    assert_same(fit("compile=true", *line, prepare=thaw_later), fit(*line, prepare=thaw_later))
    assert "different numbers of steps" in caplog.text


@pytest.mark.usefixtures("traced")
def test_an_unknown_optimiser_updates_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    line = ("trainer.max_steps=6", "optimizer._target_=torch.optim.NAdam", "~optimizer.fused", "+optimizer.eps=0.01")
    assert_same(fit("compile=true", *line), fit(*line))
    assert "vaelab cannot compile NAdam, only Adam, AdamW, Adagrad, RMSprop, SGD" in caplog.text


@pytest.mark.usefixtures("traced")
def test_changed_betas_leave_the_update_to_the_optimiser(caplog: pytest.LogCaptureFixture) -> None:
    def lower(module: VAEModule) -> None:
        module.torch_optimizer().param_groups[0]["betas"] = (0.9 - 0.02 * module.steps, 0.99)

    with_falling_beta = before_each_call(lower)
    line = ("trainer.max_steps=8", "+optimizer.eps=0.01", "steps_per_call=2")
    assert_same(fit("compile=true", *line, prepare=with_falling_beta), fit(*line, prepare=with_falling_beta))
    assert "no longer compiled, because more than its learning rate changes" in caplog.text


@pytest.mark.usefixtures("traced")
def test_a_compiled_step_is_reduced_alike() -> None:
    line = (*LINE, "trainer.precision=bf16-mixed")
    compiled, plain = fit("compile=true", *line), fit(*line)
    for name in ("train/kl", "train/reconstruction"):
        assert compiled.curve(name)[0][1] == pytest.approx(plain.curve(name)[0][1], rel=1e-3)


@pytest.mark.usefixtures("traced")
def test_a_changed_number_of_the_objective_takes_effect() -> None:
    def change(module: VAEModule) -> None:
        module.objective.beta = 0.1 * module.steps

    line = (*LINE, "steps_per_call=2")
    prepare = before_each_call(change)
    assert_same(fit("compile=true", *line, prepare=prepare), fit(*line, prepare=prepare))


@pytest.mark.usefixtures("traced")
def test_an_unused_parameter_gets_no_gradient() -> None:
    def with_unused(module: VAEModule) -> None:
        module.vae.register_parameter("unused", torch.nn.Parameter(torch.ones(2)))

    fitted = fit("compile=true", *LINE, "+optimizer.weight_decay=0.1", prepare=with_unused)
    unused = fitted.module.vae.get_parameter("unused")
    assert unused.grad is None
    assert unused.tolist() == [1, 1]


@pytest.mark.usefixtures("traced")
def test_a_frozen_parameter_stays() -> None:
    frozen: list[Tensor] = []

    def freeze(module: VAEModule) -> None:
        weight = next(module.vae.decoder.parameters()).requires_grad_(False)
        frozen.append(weight.clone())

    fitted = fit("compile=true", *LINE, prepare=freeze)
    assert torch.equal(next(fitted.module.vae.decoder.parameters()), frozen[0])
    assert_same(fitted, fit(*LINE, prepare=freeze))


@pytest.mark.usefixtures("traced")
def test_a_callback_within_the_step_prevents_compiling(caplog: pytest.LogCaptureFixture) -> None:
    class Within(pl.Callback):
        def on_before_optimizer_step(self, *args: Any) -> None: ...

    def with_callback(module: VAEModule) -> None:
        setup = module.setup

        def adding(stage: str) -> None:
            module.trainer.callbacks.append(Within())
            setup(stage)

        module.setup = adding

    fitted = fit("compile=true", *LINE, prepare=with_callback)
    assert fitted.module.uncaptured_step.compiled_step is None
    assert "not compiled: a callback acts within it" in caplog.text
