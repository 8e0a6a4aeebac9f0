"""Mistakes in a command line are found before what is slow to import. No test looks at a time."""

import json
import subprocess
import sys

import pytest

from tests.helpers.commands import FAST, USAGE, composing
from vaelab.errors import ConfigError
from vaelab.networks import MLP
from vaelab.runs.model import check_parts

RUN_ALL = """
import importlib, json, sys
found = {}
for line in sys.argv[1:]:
    command, *words = line.split()
    sys.argv = [f"vaelab.{command}", *words]
    try:
        code = importlib.import_module(f"vaelab.{command}").main()
    except SystemExit as ended:
        code = ended.code
    found[line] = [code or 0, *(name for name in ("torch", "pytorch_lightning") if name in sys.modules)]
print(json.dumps(found), file=sys.__stdout__)
"""
LISTING = "list folder=."
COMMANDS = ("train", "evaluate", "explore", "export", "report", "compare", "list", "dashboard")
WRONG = (
    *("train latent_dims=5", "train decoder=foo", "train latent_dim=abc", "train logger.project=a/b"),
    *("train -m latent_dims=5 seed=1,2", "evaluate foo=1", "evaluate run_dir=a split=foo"),
    *("explore run_dir=a checkpoint=foo", "export run_dir=a checkpoint=foo"),
    *("report sweep=a wandb_mode=foo", "compare runs=[a] output=null"),
    *("train optimizer.lr=abc", "train +foo=1", "train data=mnst", "train initialization=from_run"),
    *("list sort=foo", "list at_least=foo", "list folde=x"),
)


def exit_codes_and_imports(tmp_path, *lines):
    """Return what each command line of one process gives: its exit code, then what is imported when it ends."""
    process = [sys.executable, "-c", RUN_ALL, *lines]
    out = subprocess.run(process, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("lines", [WRONG, [f"{c} --help" for c in COMMANDS]])
def test_help_and_refusals_need_no_torch(lines, tmp_path):
    expected = {line: [USAGE if line in WRONG else 0] for line in lines}
    assert exit_codes_and_imports(tmp_path, *lines) == expected


@pytest.mark.slow
def test_refusals_of_classes_and_lists_need_no_lightning(tmp_path):
    wrong = [
        *("train decoder=gaussian decoder.head.scale.min_scale=-1", "train +decoder.head.foo=1"),
        *("train hidden_features=[8,0]", "train objective.beta=-1", "train estimator.num_samples=0"),
        "train weight_prior=normal weight_prior.scale=0",
    ]
    found = exit_codes_and_imports(tmp_path, *wrong, LISTING)
    assert found == {line: [USAGE if line in wrong else 0, "torch"] for line in (*wrong, LISTING)}


class ForMNIST(MLP):
    """Refuses images of another size."""

    def __init__(self, context_shape, event_shape):
        if (1, 28, 28) not in (tuple(context_shape), tuple(event_shape)):
            raise ValueError("needs images of 28 x 28")
        super().__init__(context_shape, event_shape)


def test_classes_of_users_are_not_tried_on_another_image():
    own = "+network={_target_:tests.test_start.ForMNIST,_partial_:true}"
    check_parts(composing(*FAST, "~network", own))
    with pytest.raises(ConfigError, match="activation"):
        check_parts(composing(*FAST, "network.activation=foo"))


def test_networks_that_must_agree_are_not_tried_on_another_image():
    line = ("data=mnist5k", "model=shared", "network@encoder.network=conv", "hidden_features=[3136]")
    check_parts(composing(*line, "latent_dim=2"))
