"""Arguments that a class lacks are named in one line with what to type."""

import re
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.helpers.commands import composing
from vaelab.errors import ConfigError
from vaelab.runs.arguments import check_arguments

MINE = "tests.helpers.my_parts"
PART = {"_partial_": True}


@pytest.mark.parametrize(
    ("key", "node", "words"),
    [
        ("decoder.head", {"_target_": f"{MINE}.MyHead", **PART}, ".MyHead needs scale: type +decoder.head.scale=VALUE"),
        ("prior", {"_target_": "torch.nn.Bilinear", **PART}, "needs out_features: type +prior.out_features=VALUE"),
        ("estimator", {"_target_": f"{MINE}.MyEstimator"}, "needs num_draws: type +estimator.num_draws=VALUE"),
        (
            "prior",
            {"_target_": f"{MINE}.MyPrior"},
            ".MyPrior gets latent_shape, event_shape from vaelab later: type +prior._partial_=true",
        ),
        (
            "decoder.head",
            {"_target_": "mine.Head", **PART},
            "decoder.head._target_=mine.Head cannot be imported (ModuleNotFoundError: No module named 'mine'): correct "
            "the path, or type the command in the folder that holds mine",
        ),
    ],
)
def test_what_is_lacking_is_named_with_what_to_type(key: str, node: dict[str, Any], words: str) -> None:
    cfg = OmegaConf.create()
    OmegaConf.update(cfg, key, node)
    with pytest.raises(ConfigError, match=re.escape(words)):
        check_arguments(cfg)


def test_right_arguments_pass() -> None:
    line = "decoder=mixture encoder=iaf optimizer=rmsprop lr_schedule=cosine gradient_clip=norm prior=vamp"
    check_arguments(composing(*line.split(), "model=hierarchical", "initialization=normal", "weight_prior=normal"))
    mine = {"head": {"_target_": f"{MINE}.MyHead", **PART, "scale": 0.1}, "data": {"_target_": f"{MINE}.MyData"}}
    check_arguments(OmegaConf.create(mine | {"prior": {"_target_": f"{MINE}.MyPrior", **PART}}))
