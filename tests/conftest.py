"""Fixtures of all tests."""

import gc
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest
import requests
import torch
from hypothesis import settings
from omegaconf import DictConfig

from tests.helpers.commands import FULL_SETS, ROOT, Outcome, Run, composing, fast, run_main
from tests.helpers.once import once
from tests.helpers.quicker import SPARED
from vaelab import evaluate, train

# the same examples every time, and as long as a busy machine takes
settings.register_profile("vaelab", deadline=None, derandomize=True, database=None)


settings.load_profile("vaelab")

# ignored if the tests run in the background of a shell, or under nohup; the processes of tests would inherit that
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

gc.disable()  # until all modules are imported


def pytest_collection_finish() -> None:
    """Keep what the imports made out of every garbage collection, which otherwise takes a tenth of the time."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a test that may take minutes more time than pyproject.toml gives all."""
    for item in items:
        long = item.get_closest_marker("slow") or item.get_closest_marker("exhaustive")
        if long and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture
def run_train(tmp_path: Path) -> Run:
    """`run_train("latent_dim=3", ..., code=0)`: vaelab.train in `tmp_path`."""
    return partial(run_main, train.main, tmp_path)


@pytest.fixture
def run_fast(tmp_path: Path) -> Run:
    """`run_fast("latent_dim=3", ..., code=0, figures=False)`: like `run_train`, with `FAST` below what is given."""

    def run(*overrides: str, code: int = 0, figures: bool = False) -> Outcome:
        return run_main(train.main, tmp_path, *fast(*overrides, figures=figures), code=code)

    return run


@pytest.fixture
def run_evaluate(tmp_path: Path) -> Run:
    """`run_evaluate("run_dir=...", code=0)`: vaelab.evaluate in `tmp_path`."""
    return partial(run_main, evaluate.main, tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A finished run of two epochs with all callbacks; its folder is for reading only."""
    line = fast("trainer.max_epochs=2", figures=True)
    return once(tmp_path_factory, "finished", lambda cwd: run_main(train.main, cwd, *line))


@pytest.fixture
def copied(finished: Outcome, tmp_path: Path) -> Path:
    """A copy of the finished run's folder, where the command lines of `run_fast` find it."""
    folder = tmp_path / finished.path.relative_to(finished.cwd)
    shutil.copytree(finished.path, folder)
    return folder


@pytest.fixture(scope="session")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 epochs, never interrupted; its folder is for reading only."""
    line = fast("trainer.max_epochs=4")
    return once(tmp_path_factory, "long", lambda cwd: run_main(train.main, cwd, *line)).path


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """`composed("latent_dim=3", ...)`: the configuration that a command line makes."""
    return composing


@pytest.fixture
def data_dir(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the full data sets, which commands then use as well."""
    folder = (ROOT / os.environ.get("VAELAB_DATA_DIR", "data")).resolve()
    missing = [file for file in FULL_SETS if not (folder / file).exists()]
    if missing:
        pytest.skip(f"needs the full data sets: {folder} lacks {', '.join(missing)}; set VAELAB_DATA_DIR")
    monkeypatch.setenv("VAELAB_DATA_DIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}, and none is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """`visit(file, ready, viewport=...)`: open a page offline, until there is an element `ready`.

    A warning, an error or a request fails the test.
    """
    contexts, complaints = [], []

    def said(message: Any) -> None:
        complaints.extend([] if message.type == "log" else [message.text])

    def asked(request: Any) -> None:
        complaints.extend([] if request.url.startswith(("file:", "data:", "blob:")) else [request.url])

    def open_page(file: Path, ready: str, **options: Any) -> Any:
        contexts.append(browser.new_context(offline=True, **{"viewport": {"width": 1280, "height": 900}} | options))
        page = contexts[-1].new_page()
        for event, listen in (
            ("console", said),
            ("pageerror", lambda error: complaints.append(str(error))),
            ("request", asked),
        ):
            page.on(event, listen)
        page.goto(file.as_uri())
        page.locator(ready).last.wait_for(state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(autouse=True)
def the_same_draws() -> None:
    """Seed every generator that is global, so that no test depends on the tests before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.default_generator.manual_seed(0)  # torch.manual_seed takes 1 ms, to look for devices
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(0)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the user's environment, or on a network."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "HYDRA_"))]:
        monkeypatch.delenv(name)

    def no_network(url: str, *args: Any, **kwargs: Any) -> None:
        raise requests.ConnectionError(f"no network in tests: {url}")

    monkeypatch.setattr(pooch, "retrieve", no_network)


@pytest.fixture(autouse=True, scope="session")
def quick() -> Iterator[None]:
    """What Hydra, OmegaConf, Lightning and the disk need not do again for each test."""
    with pytest.MonkeyPatch.context() as patch:
        for spare in SPARED:
            spare(patch)
        yield
