"""A package outside of the project adds one of each kind: a class and a YAML, and nothing else anywhere."""

import json
import shutil
import sys

import pytest
import yaml

from tests.helpers.commands import ROOT, run_main
from vaelab import evaluate, report, train


def conditional(head, **more):
    """Return the YAML of an encoder or a decoder."""
    head = {"_target_": f"my_parts.{head}", "_partial_": True, **more}
    return {"_target_": "vaelab.vae.Conditional", "_partial_": True, "head": head}


CHOICES = {
    "decoder": conditional("MyHead", scale=0.2),
    "encoder": conditional("MyPosterior"),
    "prior": {"_target_": "my_parts.MyPrior", "_partial_": True},
    "objective": {"_target_": "my_parts.MyObjective"},
    "network": {"_target_": "my_parts.MyNetwork", "_partial_": True, "units": 8},
    "data": {"_target_": "my_parts.MyData", "inverted": True, "pixels": None, "binarize": "dynamic", "seed": 0},
    "estimator": {"_target_": "my_parts.MyEstimator", "num_draws": 4},
}
LINE = (
    *("--config-dir=my_conf", *(f"{group}=mine" for group in CHOICES)),
    *("latent_dim=2", "trainer.max_epochs=1", "logger=none"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give a folder with the package `my_parts` and its choices in `my_conf`, as a user's own project has them."""
    shutil.copy(ROOT / "tests" / "helpers" / "my_parts.py", tmp_path)
    for group, node in CHOICES.items():
        (tmp_path / "my_conf" / group).mkdir(parents=True)
        (tmp_path / "my_conf" / group / "mine.yaml").write_text(yaml.safe_dump(node))
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return tmp_path


@pytest.mark.slow
def test_a_run_trains_and_is_evaluated_with_trust(folder):
    run = run_main(train.main, folder, *LINE)
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert {"test/elbo", "test/bound", "test/log_likelihood"} <= metrics.keys()
    assert json.loads((run.path / "record.json").read_text())["data"]["name"] == "my digits"
    assert list((run.path / "figures").iterdir())
    refused = run_main(evaluate.main, folder, f"run_dir={run.path}", "rerun=true", code=1)
    assert "trust=[my_parts]" in refused.err
    trust = ("trust=[my_parts]",)
    again = run_main(evaluate.main, folder, f"run_dir={run.path}", "rerun=true", "inference_gap=false", *trust)
    assert "log p(x), mine" in again.out
    other = run_main(evaluate.main, folder, f"run_dir={run.path}", "estimator=importance", "limit=20", *trust)
    assert "importance" in other.out


@pytest.mark.slow
def test_a_sweep_of_them_is_reported(folder):
    run_main(train.main, folder, "-m", *LINE, "latent_dim=2,3", "sweep.name=mine", "~callbacks.figures")
    run_main(report.main, folder, "sweep=logs/sweeps/mine")
    told = json.loads((folder / "logs" / "sweeps" / "mine" / "report.json").read_text())
    assert told["jobs"] == {"done": 2}
    (group,) = told["groups"]
    assert "my digits" in group["title"]
    assert "MyEstimator" in group["title"]
    assert {row["rank"] for row in told["rows"]} == {1, 2}
    held = told["settings_held_equal"]
    for name, node in CHOICES.items():
        target = node.get("head", node)["_target_"]
        assert target in held.values(), name
