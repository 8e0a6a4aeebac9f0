"""The reference that `make docs` writes, and the notebook, which is executed as a user would."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vaelab
from tests.helpers.commands import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


@pytest.mark.slow
def test_the_reference_is_written_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "api_reference.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path.stem for path in tmp_path.glob("vaelab/*.html")}
    assert pages == {name for name in vaelab.__all__ if type(getattr(vaelab, name)).__name__ == "module"}
    front = (tmp_path / "vaelab.html").read_text()
    assert all(f'id="{name}"' in front for name in set(vaelab.__all__) - pages)
    # pdoc takes an indented block below a line that ends in a colon for a section, not for code
    assert not re.search(r"<p>(import|run =|x =)", front)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom_in_an_empty_folder(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, 4)
    client = nbclient.NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert "better by" in str(notebook.cells)
    assert len(list(tmp_path.glob("logs/*/*"))) == 2


def test_the_stored_notebook_is_small_and_tells_nothing_of_a_machine() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) < 300_000
    assert '"image/png"' in text
    assert re.findall(r"/(?:home|root|tmp|work|Users)/[^\"]*", text) == []
    assert '"output_type": "error"' not in text
