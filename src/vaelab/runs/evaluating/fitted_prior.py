"""Exchange the prior of a trained model for one that is fitted afterwards, and is stored in the run folder."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from vaelab.data import ImageData
from vaelab.errors import ConfigError, RunFolderError
from vaelab.evaluation.aggregate_fit import fit_to_aggregate, refusal
from vaelab.files import replacing
from vaelab.priors import Prior
from vaelab.randomness import seed_draws
from vaelab.runs.evaluating.cache import load_columns
from vaelab.runs.probes.calls import check_kind, untouched
from vaelab.runs.probes.model import check_prior
from vaelab.runs.validate import refusing
from vaelab.security.allow_list import HYDRAS
from vaelab.vae import VAE

log = logging.getLogger(__name__)


class FittedPrior:
    """A prior that takes the place of a trained model's own, and is fitted to the model's aggregate posterior.

    Args:
        node: the configuration of the prior.
        vae: the model, with its trained weights. It has the new prior from now on.
        data: serves the training examples.
        seed: the seed of the fit.

    Raises:
        ConfigError: the prior cannot be made, or does not suit the model.
    """

    def __init__(self, node: Mapping[str, Any], vae: VAE, data: ImageData, seed: int) -> None:
        self.vae, self.data, self.seed, self.own = vae.eval(), data, seed, vae.prior
        seed_draws("cpu", "prior", seed)
        with refusing("the prior"):
            self.prior = instantiate(node)(vae.prior.latent_shape, vae.prior.event_shape).eval()
        check_kind("prior", self.prior, Prior)
        with untouched(vae, self.prior), torch.no_grad():
            check_prior(self.prior, vae.encoder)
        if reason := refusal(vae, self.prior):
            learnt = "the prior= that it was trained with and prior.learned=true"
            other = learnt if vae.encoder.head.discrete else "prior=mixture"
            raise ConfigError(f"{reason}: type {other}, or leave out prior= to keep the model's own")
        vae.prior = self.prior
        self.label = described(node)

    def complete(self, path: Path, anew: bool = False) -> None:
        """Read the fitted parameters from a file, or, if it is missing or `anew`, fit them and write them to it."""
        from safetensors.torch import save

        if path.exists() and not anew:
            try:
                self.prior.load_state_dict(load_columns(path))
                return
            except Exception as error:  # safetensors and PyTorch raise different classes of errors
                log.warning("%s is damaged (%s): the prior is fitted again", path, error)
        with refusing("the prior"):
            fit_to_aggregate(self.prior, self.vae, self.data, self.seed)
        with replacing(path) as partial:
            partial.write_bytes(save(self.prior.state_dict()))

    def draw(self, path: Path) -> None:
        """Write a figure of samples, with z from the model's own prior and from the fitted one."""
        from vaelab.evaluation.figures import samples_of_priors  # matplotlib and SciPy are slow to import

        if path.parent.is_symlink():
            raise RunFolderError(f"{path.parent} is a link: remove it, or evaluate a copy of the run folder without it")
        path.parent.mkdir(exist_ok=True)
        seed_draws("cpu", "figures", self.seed)
        priors = {"the model's own prior": self.own, f"fitted: {self.label}": self.prior}
        with replacing(path) as partial:
            samples_of_priors(self.vae, priors).savefig(partial, dpi=150, format="png")


def described(node: Mapping[str, Any]) -> str:
    """Return the class and the settings of a prior's configuration, such as `MixtureOfGaussians(num_components=10)`."""
    settings = ", ".join(f"{key}={value}" for key, value in node.items() if key not in HYDRAS)
    return f"{node['_target_'].removeprefix('vaelab.priors.')}({settings})"
