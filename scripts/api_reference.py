"""Write the reference of the Python interface from its docstrings: `python scripts/api_reference.py build/docs`."""

import sys
import warnings
from pathlib import Path

import pdoc
from pytorch_lightning import LightningDataModule
from torch import nn

import vaelab

NOT_OURS = (nn.Module.__init__, nn.Module.forward, LightningDataModule.__init__)  # which overrides would show


def main(folder: Path) -> None:
    """Write an HTML page for `vaelab` and for each of its public packages; a warning of pdoc is an error."""
    for name in vaelab.__all__:
        getattr(vaelab, name)  # pdoc sees only what is imported
    for function in NOT_OURS:
        function.__doc__ = None
    pdoc.render.configure(docformat="google", footer_text=f"vaelab {vaelab.__version__}", show_source=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.pdoc("vaelab", output_directory=folder)
    print(f"written: {folder / 'index.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
