"""Fixtures of the pages of latents."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.commands import composing
from tests.helpers.exploring import CASES, Made, make
from vaelab.runs.build import build


@pytest.fixture(scope="session")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """`page_of("conv")`: the page of one of the `CASES`, and its model; made once."""
    folder, known = tmp_path_factory.mktemp("explored"), {}

    def made(name: str) -> Made:
        if name not in known:
            data, module = build(composing("data=digits", "estimator=importance", *CASES[name]))
            known[name] = make(folder / f"{name}.html", module.vae, data)
        return known[name]

    return made


@pytest.fixture
def opened(visit: Any, page_of: Callable[[str], Made]) -> Any:
    """`opened("conv", viewport=...)`: open the page of a case, until it shows an example."""

    def open_page(name: str, **options: Any) -> Any:
        page = visit(page_of(name)[0], "html[data-ready]", **options)
        page.wait_for_function("document.querySelector('#picture').dataset.z")
        return page

    return open_page
