"""What Hydra, OmegaConf, Lightning and the disk need not do again for each test, because it takes most of its time."""

import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from omegaconf import DictConfig
from pytorch_lightning.trainer.connectors import callback_connector
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultMetric

from vaelab.data import Digits
from vaelab.data.splits import Splits
from vaelab.runs.configuration import CONF


def waiting_for_the_disk(patch: pytest.MonkeyPatch) -> None:
    """No test cuts the power, and waiting for the disk is half the time of a short run."""
    patch.setattr(os, "fsync", lambda descriptor: None)


def composing_twice(patch: pytest.MonkeyPatch) -> None:
    """Hydra composes a command line once more, to find a `hydra.mode` in it; tests of `sweep=` type -m instead."""
    patch.setattr(Hydra, "get_mode", lambda *args, **kwargs: None)


def parsing_twice(patch: pytest.MonkeyPatch) -> None:
    """Hydra parses the shipped YAMLs again for each command line, which is a fifth of the time of a refusal."""
    # not the class that an import gives, because Hydra loads the modules of its plugins once more
    source: Any = SourcesRegistry.instance().resolve("file")
    parse, parsed = source.load_config, {}

    def load(self: Any, config_path: str) -> Any:
        if self.path != CONF:
            return parse(self, config_path)
        if config_path not in parsed:
            parsed[config_path] = pickle.dumps(parse(self, config_path))
        return pickle.loads(parsed[config_path])  # a ninth of the time of a deep copy

    patch.setattr(source, "load_config", load)


def merging_twice(patch: pytest.MonkeyPatch) -> None:
    """Hydra merges the same choices of shipped YAMLs for each command line, which is a quarter of a refusal's time."""
    merge, merged = ConfigLoaderImpl._compose_config_from_defaults_list, {}

    def merging(self: Any, defaults: Any, repo: Any) -> Any:
        sources = [(source.scheme(), source.path) for source in repo.get_sources()]
        if any(scheme == "file" and path != CONF for scheme, path in sources):
            return merge(self, defaults, repo)
        key = repr((sources, defaults))
        if key not in merged:
            merged[key] = pickle.dumps(merge(self, defaults, repo))
        return pickle.loads(merged[key])

    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", merging)


def slow_copies(patch: pytest.MonkeyPatch) -> None:
    """Hydra and OmegaConf copy whole configurations several times for each command line."""
    slowly = DictConfig.__deepcopy__

    def copied(self: DictConfig, memo: dict[int, Any]) -> DictConfig:
        parent = self.__dict__["_parent"]
        self.__dict__["_parent"] = None
        try:
            made = pickle.loads(pickle.dumps(self))
        except (pickle.PicklingError, AttributeError, TypeError):  # holds an object that cannot be pickled
            return slowly(self, memo)
        finally:
            self.__dict__["_parent"] = parent
        made.__dict__["_parent"] = parent
        return made

    patch.setattr(DictConfig, "__deepcopy__", copied)


def choices_that_nothing_refers_to(patch: pytest.MonkeyPatch) -> None:
    """Hydra collects the choices for each entry of each defaults list, for references such as `${decoder}` in it."""
    collect = defaults_list._create_interpolation_map

    def known(overrides: Any, entries: Any, self_added: bool) -> Any:
        return collect(overrides, entries, self_added) if "${" in repr(entries) else None

    patch.setattr(defaults_list, "_create_interpolation_map", known)


def reading_twice(patch: pytest.MonkeyPatch) -> None:
    """Most tests build the digits, which scikit-learn parses from text."""
    read, found = Digits.splits, {}

    def splits(self: Digits) -> Splits:
        if self.seed not in found:
            found[self.seed] = pickle.dumps(read(self))
        return pickle.loads(found[self.seed])

    patch.setattr(Digits, "splits", splits)


def packages_of_lightning(patch: pytest.MonkeyPatch) -> None:
    """Each trainer looks through all installed packages for callbacks of theirs."""
    patch.setattr(callback_connector, "_load_external_callbacks", lambda group: [])


def moving_to_the_cpu(patch: pytest.MonkeyPatch) -> None:
    """Lightning walks through each metric to move it to the device, which is an eighth of a short run."""
    if not torch.cuda.is_available():
        patch.setattr(_ResultMetric, "to", lambda self, *args, **kwargs: self)


SPARED: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    *(waiting_for_the_disk, composing_twice, parsing_twice, merging_twice, slow_copies),
    *(choices_that_nothing_refers_to, reading_twice, packages_of_lightning, moving_to_the_cpu),
)
