"""The script that draws the figures of docs/components.md."""

import runpy

import pytest

from tests.helpers.commands import ROOT

SWEEP = ("-m", "data=digits", "decoder=gaussian,poisson", "latent_dim=2", "trainer.max_steps=2", "sweep.name=two")


@pytest.mark.slow
def test_each_kind_of_figure_is_drawn(run_fast, tmp_path):
    run_fast(*SWEEP)
    script = runpy.run_path(str(ROOT / "scripts" / "component_figures.py"))
    for kind in ("decoders", "posteriors", "priors"):
        script["main"](kind, str(tmp_path / "logs" / "sweeps" / "two"), tmp_path)
        assert (tmp_path / f"{kind}.png").stat().st_size > 5000
