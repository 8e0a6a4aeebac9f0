"""The map and the table of choices follow from the code; the examples of CONTRIBUTING train and are evaluated."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT, run_main
from tests.helpers.pages import commands_of, write_files_shown
from vaelab import evaluate, report

PAGE = ROOT / "CONTRIBUTING.md"
SOURCES = ROOT / "src" / "vaelab"
KINDS = ("decoder", "encoder", "prior", "network", "objective", "estimator", "data")
KINDS = (*KINDS, "callbacks", "optimizer", "lr_schedule")
QUICK = ("~callbacks.figures", "hidden_features=8", "logger=none")
EXAMPLES = {kind: next(c for c in commands_of("train", PAGE) if f" {kind}=" in c) for kind in KINDS}
sys.path.append(str(ROOT / "scripts"))  # where docs.py finds combinations.py
docs = runpy.run_path(str(ROOT / "scripts" / "docs.py"))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.exhaustive] if name == docs["SLOW"] else []) for name in docs["PARTS"]],
)
def test_derived_parts_are_up_to_date(name):
    page, found, wanted = docs["updated"](name)
    assert found == wanted, f"{page.name} is out of date: type python scripts/docs.py {name}"


def test_reduction_leaves_out_what_follows_from_other_arrows():
    arrows = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert docs["reduced"](arrows) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}
    with pytest.raises(ValueError, match="cycle"):
        docs["reduced"]({"a": {"b"}, "b": {"a"}})


def test_every_package_is_in_the_map_and_the_table():
    packages = {path.parent.name for path in SOURCES.glob("*/__init__.py")}
    table = PAGE.read_text().partition("| package | holds |")[2].partition("\n\n")[0]
    assert packages <= set(docs["boxes_of_modules"]())
    assert packages <= set(re.findall(r"`(\w+)`", table))


def test_every_file_that_is_named_exists():
    named = set(re.findall(r"`([\w/.]+\.py)`", PAGE.read_text())) - {"__init__.py", "utils.py"}
    assert len(named) > 20
    assert sorted(name for name in named if not any((root / name).exists() for root in (ROOT, SOURCES))) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_with_example_code_is_evaluated_if_trusted(kind, run_train, tmp_path):
    write_files_shown(tmp_path)
    samples = [] if kind == "estimator" else ["estimator.num_samples=2"]
    run = run_train(*shlex.split(EXAMPLES[kind]), *QUICK, *samples)
    out = run_main(evaluate.main, tmp_path, f"run_dir={run.path}", "trust=[mine]", "limit=20").out
    assert "ELBO" in out
    if kind in ("decoder", "encoder", "prior", "network"):
        assert "trust=[mine]" in run_main(evaluate.main, tmp_path, f"run_dir={run.path}", code=1).err


@pytest.mark.slow
def test_all_examples_sweep_together_and_appear_in_the_report(run_train, tmp_path):
    write_files_shown(tmp_path)
    chosen = [f"{kind}={Path(yaml).stem}" for kind in KINDS[1:] for yaml in (tmp_path / "my_conf" / kind).iterdir()]
    line = ["-m", "--config-dir", "my_conf", *chosen, "decoder=my_poisson,my_laplace,bernoulli", "latent_dim=2", *QUICK]
    run_train(*line, "trainer.max_steps=2", "sweep.name=mine")
    sweep = tmp_path / "logs" / "sweeps" / "mine"
    assert len(list(sweep.glob("*/metrics.json"))) == 3
    run_main(report.main, tmp_path, f"sweep={sweep}")
    page = (sweep / "report.html").read_text()
    assert all(name in page for name in ("poisson", "laplace", "stripes"))
