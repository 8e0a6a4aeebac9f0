"""The tests of the compiled gradient, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("marked", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_compiled_steps_train_like_plain_ones(marked: str) -> None:
    cases = Path(__file__).with_name("compiled_cases.py")
    # without the options of pyproject.toml, which check types while the tests run
    line = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-m", marked, str(cases)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
