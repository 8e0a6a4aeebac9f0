"""Do in a Python process what a command does: nothing global stays changed, and errors are raised, in one line."""

import os
import random
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from types import ModuleType
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.errors import InstantiationException
from hydra.version import VersionBase, setbase
from omegaconf import DictConfig

from vaelab import errors
from vaelab.errors import ConfigError, DataError
from vaelab.runs.cli import (
    FAILURE,
    USAGE,
    WANTS_TRACEBACK,
    call_checked,
    console,
    fixable,
    is_usage,
    one_line,
    raised_while_composing,
)
from vaelab.runs.configuration import CONF
from vaelab.runs.keys import reworded
from vaelab.runs.resolvers import register_resolvers
from vaelab.signals import Interrupted, heeding

OURS = tuple(kind for kind in (*USAGE, *FAILURE) if kind.__module__ == errors.__name__)
HYDRAS = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)  # its global state
Overrides = str | Sequence[str]
GOES_ON = "stopped: the same call goes on from where it was"


@contextmanager
def like_a_command(config_dir: str | os.PathLike[str] | None = None, config: str = "train") -> Iterator[Hydra]:
    """Give a Hydra that composes `config` from `conf/` and `config_dir`, and restore this process after the block."""
    with raising(config), own_hydra(config_dir) as hydra, same_afterwards(), console(), heeding():
        yield hydra


@contextmanager
def composing() -> Iterator[None]:
    """Turn the plain ValueError that Hydra raises for some overrides into a ConfigError."""
    try:
        yield
    except ValueError as error:
        if fixable(error) or not raised_while_composing(error):
            raise
        raise ConfigError(one_line(error)) from error


def words_of(overrides: Overrides) -> list[str]:
    """Return overrides, which may be one text, as the words of a command line.

    Raises:
        ConfigError: there is a flag among them.
    """
    words = shlex.split(overrides) if isinstance(overrides, str) else [str(override) for override in overrides]
    if flags := [word for word in words if word.startswith("-")]:
        instead = "give config_dir= for --config-dir, and call vaelab.run_sweep for -m"
        raise ConfigError(f"expected overrides, found the flag {flags[0]}: leave it out; {instead}")
    return words


def run_once(hydra: Hydra, config: str, overrides: list[str], function: Callable[[DictConfig], Any]) -> Any:
    """Compose `conf/CONFIG.yaml` once, and return what `function` makes of it."""
    failures: list[Exception] = []

    def task(cfg: DictConfig) -> Any:
        try:
            return call_checked(config, function, cfg)
        except Exception as error:  # kept from Hydra, which would print more
            failures.append(error)

    with composing():
        job = hydra.run(config, task, [*overrides, "hydra.mode=RUN"], with_log_configuration=False)
    if failures:  # raised here, because no error of `function` comes from composing
        raise failures[0]
    return job.return_value


@contextmanager
def without_main() -> Iterator[None]:
    """Keep processes that start in the block from importing the script that is running, and so from running it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def raising(config: str = "train") -> Iterator[None]:
    """Raise what a user can fix as an error of `vaelab.errors`, with the line that the command `config` would print.

    Raises:
        KeyboardInterrupt: there was a Ctrl-C, which `heeding` has turned into `Interrupted`.
    """
    try:
        yield
    except Interrupted as interrupted:
        if interrupted.number == signal.SIGINT:
            raise KeyboardInterrupt(GOES_ON) from None
        if interrupted.number in (signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(interrupted.number)  # now as without vaelab: it ends the process
        raise
    except Exception as error:
        kinds = [type(error)] * isinstance(error, OURS) + [ConfigError] * is_usage(error)
        kinds += [DataError] * isinstance(error, InstantiationException)  # Hydra wraps the error of a data set
        if WANTS_TRACEBACK or not kinds:
            raise
        # a copy has no traceback: a notebook would print pages of it
        raised = copy(error) if isinstance(error, kinds[0]) else kinds[0]()
        raised.args = (one_line(reworded(config, error)),)
        raised.__notes__ = []  # the line has them
        raise raised from None


@contextmanager
def own_hydra(config_dir: str | os.PathLike[str] | None) -> Iterator[Hydra]:
    """Give a Hydra whose global state is its own, and put back that of another program."""
    if config_dir is not None and not os.path.isdir(config_dir):
        raise ConfigError(
            f"config_dir={os.fspath(config_dir)} is not a folder: give the one that holds your YAML files"
        )
    former = {kind: Singleton._instances.pop(kind, None) for kind in HYDRAS}
    try:
        setbase("1.3")
        register_resolvers()
        path = create_config_search_path(CONF)
        if config_dir is not None:
            own = f"file://{os.path.abspath(config_dir)}"
            path.prepend("command-line", own, SearchPathQuery(provider="schema"))
        yield Hydra.create_main_hydra2("train", path)
    finally:
        for kind, instance in former.items():
            Singleton._instances.pop(kind, None)
            if instance is not None:
                Singleton._instances[kind] = instance


@contextmanager
def same_afterwards() -> Iterator[None]:
    """Put back the environment, the warning filters, the random numbers, and the settings of PyTorch."""
    import numpy as np  # slow to import, like the next
    import torch

    environment, python, numpys = dict(os.environ), random.getstate(), np.random.get_state()  # noqa: NPY002
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    deterministic, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(environment)
            random.setstate(python)
            np.random.set_state(numpys)  # noqa: NPY002
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)
            torch.set_deterministic_debug_mode(deterministic)
            torch.backends.cudnn.benchmark = benchmark
