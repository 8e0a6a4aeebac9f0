"""A run folder as a Python object: its results, its model with the trained weights, and its data."""

import os
from collections.abc import Sequence
from functools import cached_property
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError
from vaelab.runs.calling import Overrides, like_a_command, raising, run_once, words_of
from vaelab.runs.command_line import hydra_overrides, quoted
from vaelab.runs.folder.contents import read_config, read_json, read_metrics, read_status
from vaelab.runs.folder.curves import read_curves
from vaelab.runs.folder.identity import flatten
from vaelab.runs.validate import EVALUATION, check_choice, check_evaluation
from vaelab.security.allow_list import trusted_packages
from vaelab.security.redaction import presentable

if TYPE_CHECKING:  # slow to import
    from vaelab.data import ImageData
    from vaelab.evaluation.lightning_module import EvaluationModule
    from vaelab.runs.evaluating.complete import Evaluated
    from vaelab.vae import VAE


FIXED = ("run_dir", "sweep", "checkpoint", "data_dir", "trust")  # what a `Run` knows, of the settings of an evaluation


class Curve(NamedTuple):
    """A metric in the course of training: `matplotlib.pyplot.plot(*curve)` draws it."""

    samples_seen: NDArray[np.float64]
    values: NDArray[np.float64]


class Run:
    """A run folder. Each attribute is read at its first use; `print(run)` shows the table of the test.

    The folder may be untrusted, and `vae` and `data` are made by the rules of `vaelab.evaluate`: no class outside of
    vaelab and of trusted packages, no pickle, and no data but those that the run was trained on.

    Args:
        path, weights, data_dir, trust: see `vaelab.load`.

    Attributes:
        path: the folder.
        weights: `last` or `best`, those that `vae` has.
        config: the configuration, as nested dicts.
        data_dir: the folder of the data files.
        trusted: the packages, besides vaelab, whose classes the model may be made of.

    Raises:
        RunFolderError, DataError, ConfigError: raised by the attributes if the folder is damaged, names a class that is
            not trusted, or does not fit the data.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        weights: Literal["last", "best"] = "last",
        data_dir: str | os.PathLike[str] | None = None,
        trust: str | Sequence[str] = (),
    ) -> None:
        check_choice("weights", weights, EVALUATION["checkpoint"])
        self.path = Path(path).absolute()
        self.weights = weights
        self.config: dict[str, Any] = read_config(self.path)
        self.trusted = trusted_packages(trust if isinstance(trust, str) else OmegaConf.create([*trust]))
        self.data_dir = os.path.abspath(os.path.expanduser(data_dir or os.environ.get("VAELAB_DATA_DIR", "data")))

    @property
    def vae(self) -> "VAE":
        """The model, on the CPU in evaluation mode. No parameter needs a gradient; `requires_grad_()` changes that."""
        return self.module.vae

    @property
    def data(self) -> "ImageData":
        """The data, ready to draw the pixels that the model was trained on: `run.data.draw("test", range(16))`."""
        return self._reopened[0]

    @property
    def module(self) -> "EvaluationModule":
        """The module that evaluates `vae`; it knows the objective, the estimator and the counts of training."""
        return self._reopened[1]

    @cached_property
    def _reopened(self) -> "tuple[ImageData, EvaluationModule]":
        import torch  # slow to import, like the others

        from vaelab.runs.evaluating.reopen import blaming, reopen, stored_config
        from vaelab.runs.folder.weights import read_weights

        runtime = {"accelerator": "cpu", "devices": 1, "data_dir": self.data_dir}
        cfg = OmegaConf.create({"num_samples": None, "runtime": runtime})
        with raising(), torch.random.fork_rng(devices=[]):
            own = stored_config(self.path, cfg, self.trusted)
            with blaming(self.path, self.trusted):
                data, module = reopen(own, read_weights(self.path, self.weights), self.path, self.trusted)
        module.eval().requires_grad_(False)
        return data, module

    @cached_property
    def record(self) -> dict[str, Any]:
        """What `record.json` tells: the data with their hashes, the versions, the threads."""
        return read_json(self.path / "record.json")

    @cached_property
    def state(self) -> str:
        """The state that `status.json` tells: `done`, `running`, `interrupted` or `failed`."""
        return str(read_status(self.path).get("state", "unknown"))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The final metrics of the last weights; those of the best begin with `best/`. Empty before the end."""
        return read_metrics(self.path)

    @cached_property
    def history(self) -> dict[str, Curve]:
        """The curves of training, by metric: `samples_seen, elbo = run.history["val/elbo"]`."""
        curves = read_curves(self.path).items()
        return {name: Curve(*np.array(points, np.float64).reshape(-1, 2).T) for name, points in curves}

    @property
    def evaluations(self) -> dict[str, dict[str, Any]]:
        """What `vaelab.evaluate` has written, by the name of the evaluation."""
        return {file.stem: read_json(file) for file in sorted((self.path / "evaluations").glob("*.json"))}

    @cached_property
    def figures(self) -> dict[str, Path]:
        """The PNG files of the run, by their names."""
        return {file.stem: file for file in sorted((self.path / "figures").glob("*.png"))}

    def with_weights(self, weights: Literal["last", "best"]) -> "Run":
        """Return the same run with other weights."""
        return Run(self.path, weights, self.data_dir, self.trusted)

    def evaluate(self, overrides: Overrides = ()) -> "Evaluated":
        """Evaluate the run as `python -m vaelab.evaluate run_dir=PATH OVERRIDES` does.

        Return the metrics as a dict, whose `examples` are the values of each example. Values that were stored before
        are not computed again.

        Args:
            overrides: what you would type: `"estimator=ais limit=100"` or a list of these.

        Raises:
            ConfigError, RunFolderError, DataError: as for the attributes; or the overrides are wrong.
            KeyboardInterrupt: what was evaluated is kept; the same call goes on.
        """
        words = evaluation_words(self, overrides, run_dir=self.path, trust=[*self.trusted])
        with like_a_command(config="evaluate") as hydra:
            return run_once(hydra, "evaluate", words, _evaluated)

    def __repr__(self) -> str:
        value = self.metrics.get("test/elbo")
        told = "" if value is None else f", ELBO {value:.2f} nats on the test split"
        return f"Run({presentable(os.path.relpath(self.path))!r}, {self.weights!r}): {presentable(self.state)}{told}"

    def __str__(self) -> str:
        if not self.metrics:
            return repr(self)
        from rich.console import Console

        from vaelab.runs.results import both, refused_in, summary  # slow to import

        estimator = flatten(self.config).get("runtime.choices.estimator", "")
        table, notes = summary(both(self.metrics), presentable(str(estimator)), refused_in(self.path))
        console = Console(file=StringIO(), width=100, force_jupyter=False, force_terminal=False)
        console.print(table)
        return "\n".join([repr(self), console.file.getvalue().rstrip(), *notes])  # type: ignore[attr-defined]

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def evaluation_words(run: Run, overrides: Overrides, **what: Any) -> list[str]:
    """Return what to type after `python -m vaelab.evaluate` to evaluate `what` with the weights and data of a run.

    Raises:
        ConfigError: an override chooses the run, its weights, its data folder or what it trusts.
    """
    words = words_of(overrides)
    if fixed := [word for word in words if word.lstrip("+~").partition("=")[0].removeprefix("runtime.") in FIXED]:
        raise ConfigError(
            f"{fixed[0]} would evaluate something else than {run!r}: call vaelab.load for another run, and "
            "with_weights for other weights"
        )
    given = {**what, "checkpoint": run.weights, "data_dir": run.data_dir}
    return hydra_overrides("evaluate", [*(f"{key}={quoted(value)}" for key, value in given.items()), *words])


def _evaluated(cfg: DictConfig) -> "Evaluated":
    check_evaluation(cfg)
    from vaelab.runs.evaluating.complete import complete_evaluation  # slow to import

    return complete_evaluation(cfg, show=False)
