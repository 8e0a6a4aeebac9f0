from functools import partial

import pytest
import pytorch_lightning as pl
import torch
import torch.distributions as td
from pytorch_lightning.callbacks import LambdaCallback

from vaelab.data import Digits
from vaelab.estimators import ImportanceSampling
from vaelab.heads import Bernoulli, DiagonalGaussian, OptimalScale
from vaelab.networks import MLP
from vaelab.objectives import ELBO, NormalWeightPrior
from vaelab.priors import Prior, StandardNormal
from vaelab.randomness import generator, seed_draws
from vaelab.training import VAEModule
from vaelab.vae import Conditional, make_vae

ADAM = partial(torch.optim.Adam, lr=1e-2)


def digits(batch_size=100, batches_per_chunk=1, pixels="binary", seed=3):
    data = Digits(batch_size=batch_size, batches_per_chunk=batches_per_chunk, shuffle_seed=seed)
    data.serve(pixels)
    return data


def new_vae(head=Bernoulli):
    torch.manual_seed(0)
    network = partial(MLP, hidden_features=8)
    encoder, decoder = (partial(Conditional, head=part) for part in (DiagonalGaussian, head))
    return make_vae((1, 8, 8), 2, encoder, decoder, StandardNormal, network, network)


def module_of(vae, **kwargs):
    return VAEModule(vae, ELBO(), ADAM, ImportanceSampling(3), seed=3, **kwargs)


def trainer(max_epochs=1, **kwargs):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    return pl.Trainer(
        max_epochs=max_epochs, accelerator="cpu", enable_progress_bar=False, log_every_n_steps=1, **quiet, **kwargs
    )


def trained(batches_per_chunk=1, max_epochs=2, **kwargs):
    module = module_of(new_vae(), **kwargs)
    trainer(max_epochs).fit(module, digits(batches_per_chunk=batches_per_chunk))
    return module


def assert_same_weights(one, other):
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_training_is_the_loop_written_by_hand():
    data, vae = digits(), new_vae()
    optimizer = ADAM(vae.parameters())
    images = torch.tensor(data.split["train"].images)
    for epoch in range(2):
        order = torch.randperm(len(images), generator=generator("shuffle", 3, epoch))
        for step, indices in enumerate(order.split(100)):
            seed_draws("cpu", "train", 3, epoch, step, 0)
            levels = images[indices]
            words = torch.empty(levels.numel() // 4, dtype=torch.int64).random_(-(2**63), None)
            uniform = words.view(torch.uint16).double().view(levels.shape) / 2**16
            x = (uniform < levels.double() / 16).float()
            q = vae.encode(x)
            z = q.rsample()
            bound = vae.decode(z).log_prob(x) - torch.distributions.kl_divergence(q, vae.latent_prior())
            optimizer.zero_grad()
            (-bound.sum() / len(indices)).backward()
            optimizer.step()
    assert_same_weights(trained().vae, vae)


def test_metrics_are_means_over_examples_whatever_their_blocks():
    module, data = module_of(new_vae()), digits()
    runner = trainer()
    runner.validate(module, datamodule=data, verbose=False)
    metrics = {name: float(value) for name, value in runner.callback_metrics.items()}
    assert len(data.split["val"]) % 100  # the last block is smaller
    elbos = []
    for block in data.blocks("val"):
        x = data.draw_block("val", block)
        seed_draws("cpu", "evaluate", 3, 1, block.number)
        elbos.append(ELBO()(module.vae, x, torch.tensor(0)).metrics["elbo"].detach())
    assert metrics["val/elbo"] == pytest.approx(torch.cat(elbos).double().mean().item(), rel=1e-6)
    assert metrics["val/elbo"] == pytest.approx(metrics["val/reconstruction"] - metrics["val/kl"], rel=1e-6)


def test_reduced_precision_trains_close_to_full_precision():
    module = module_of(new_vae())
    trainer(2, precision="bf16-mixed").fit(module, digits())
    assert module.latest == pytest.approx(trained().latest, abs=1.0)


def test_weight_prior_joins_the_loss_and_not_the_bound():
    losses = {}
    for name, prior in {"without": None, "with": NormalWeightPrior(scale=0.05)}.items():
        module, gradients = module_of(new_vae(), weight_prior=prior, max_steps=1), []
        module.vae.decoder.head.logits.linear.weight.register_hook(gradients.append)
        trainer().fit(module, digits())
        losses[name] = (gradients[0], module.latest)
    weight = new_vae().decoder.head.logits.linear.weight
    expected = weight.detach() / 0.05**2 / 1438
    torch.testing.assert_close(losses["with"][0] - losses["without"][0], expected, rtol=1e-3, atol=1e-5)
    assert losses["with"][1] == losses["without"][1]


def test_the_reported_loss_has_the_weight_priors_share():
    data, module = digits(), module_of(new_vae(), weight_prior=NormalWeightPrior(scale=0.05))
    reported, penalty = {}, module.weight_prior(module.vae).item()  # of the weights before the step
    module.report = lambda metrics: reported.update(metrics) or {"train/elbo": 0.0}
    module.max_steps = 1
    trainer().fit(module, data)
    expected = penalty / data.num_train - reported["train/elbo"].item()
    assert reported["train/loss"].item() == pytest.approx(expected, rel=1e-6)


def test_optimal_scale_is_learnt_in_training_and_frozen_in_evaluation():
    data = digits(pixels="unit")
    module = module_of(new_vae(partial(DiagonalGaussian, scale=OptimalScale, sigmoid_mean=True)))
    runner = trainer(3)
    runner.fit(module, data)
    learnt = module.vae.decoder.head.scale.mean_square.clone()
    assert 0.01 < learnt < 0.25
    runner.test(module, datamodule=data, verbose=False)
    assert torch.equal(module.vae.decoder.head.scale.mean_square, learnt)


class Learnt(Prior):
    def __init__(self, latent_shape, event_shape):
        super().__init__(latent_shape, event_shape)
        self.loc = torch.nn.Parameter(torch.zeros(latent_shape))

    def forward(self, encoder):
        return td.Independent(td.Normal(self.loc, 1.0), 1)


def with_learnt_prior():
    vae = new_vae()
    vae.prior = Learnt((2,), (1, 8, 8))
    return module_of(vae)


def test_validation_takes_the_prior_of_the_weights_in_place():
    module = with_learnt_prior()
    shift = [lambda *_, by=by: module.vae.prior.loc.data.add_(by) for by in (3, -3)]
    swap = LambdaCallback(on_validation_epoch_start=shift[0], on_validation_epoch_end=shift[1])
    trainer(callbacks=[swap]).validate(module, digits(), verbose=False)
    assert module.found["val/kl"] > 5  # two dimensions of 3^2 / 2 each; without the shift it is close to 0


def test_an_evaluation_that_fails_leaves_no_fixed_prior():
    module = with_learnt_prior()
    module.keep = lambda records: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer().test(module, digits(), verbose=False)
    assert module.vae.latent_prior() is not module.vae.latent_prior()
