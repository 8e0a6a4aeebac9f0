"""The tests of the compiled gradient, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_steps_train_like_plain_ones() -> None:
    cases = Path(__file__).with_name("compiled_cases.py")
    # without the options of pyproject.toml, which check types while the tests run
    line = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", str(cases)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
