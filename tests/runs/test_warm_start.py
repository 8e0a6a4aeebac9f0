"""Begin with the weights of another run, `initialization=from_run`, or with those that training data give."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf.errors import InterpolationResolutionError

from tests.helpers.commands import FAILURE, USAGE, Outcome, Run, assert_one_line, composing, weights
from vaelab.errors import ConfigError, RunFolderError
from vaelab.runs import serving
from vaelab.runs.build import build
from vaelab.runs.configuration import plain
from vaelab.runs.folder.identity import identity

SMALL = ("data=digits", "hidden_features=8", "latent_dim=2", "initialization=from_run")


def start(run: Path, *overrides: str) -> tuple[str, ...]:
    return (*SMALL, f"initialization.run_dir={run}", *overrides)


@pytest.mark.parametrize("name", ["best", "last"])
def test_training_begins_with_the_weights_of_the_other_run(name: str, finished: Outcome) -> None:
    _, module = build(composing(*start(finished.path, f"initialization.checkpoint={name}", "seed=7")))
    there = weights(finished.path, name)
    here = module.state_dict()
    assert all(torch.equal(here[key], value) for key, value in there.items() if key.startswith("vae."))


@pytest.mark.slow
def test_a_learnt_prior_does_not_begin_at_data_again(run_fast: Run) -> None:
    vamp = ("prior=vamp", "prior.num_pseudo_inputs=3", "prior.init=data")
    path = run_fast(*vamp).path
    _, module = build(composing(*start(path, *vamp, "seed=1")))
    assert torch.equal(module.vae.prior.logits, weights(path, "best")["vae.prior.logits"])


def test_the_weights_are_part_of_the_identity(copied: Path) -> None:
    line = start(copied)
    one = identity(plain(composing(*line)))
    shutil.copy(copied / "checkpoints" / "previous.ckpt", copied / "checkpoints" / "best.ckpt")
    os.utime(copied / "checkpoints" / "best.ckpt", ns=(1, 1))
    assert identity(plain(composing(*line, "seed=0"))) != one


def test_the_spelling_of_the_folder_is_not_part_of_the_identity(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {
        identity(plain(composing(*start(path))))
        for path in (copied, copied.relative_to(tmp_path), Path("x", "..", copied))
    }
    assert len(found) == 1
    own = plain(composing(*start(copied)))
    own["initialization"]["_target_"] = "mine.from_run"
    assert identity(own | {"initialization": own["initialization"] | {"run_dir": "b"}}) != identity(own)


@pytest.mark.parametrize(("kept", "asked"), [("last", "best"), ("best", "last")])
def test_a_run_without_that_checkpoint_is_told_the_other(kept: str, asked: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"{kept}.safetensors").touch()
    cfg = composing(*start(tmp_path, f"initialization.checkpoint={asked}"))
    with pytest.raises(InterpolationResolutionError, match=f"no {asked}.ckpt: type initialization.checkpoint={kept}"):
        plain(cfg)


def test_a_file_that_changes_meanwhile_is_refused(copied: Path) -> None:
    cfg = composing(*start(copied), "seed=3")
    assert plain(cfg)["initialization"]["sha256"]
    cfg.initialization.sha256 = "0" * 64
    with pytest.raises(RunFolderError, match="has changed since the command began"):
        build(cfg)


def test_another_model_is_refused_in_one_line(finished: Outcome) -> None:
    with pytest.raises(ConfigError, match=r"has another model, expected .* to be float32 \[9.*give both the same"):
        build(composing(*start(finished.path, "hidden_features=9")))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("data=digits initialization=from_run", "initialization.run_dir is missing"),
        ("initialization=from_run initialization.run_dir=nowhere", "initialization.run_dir=nowhere has no best.ckpt"),
        (
            "initialization=from_run initialization.run_dir=a initialization.checkpoint=foo",
            "initialization.checkpoint must be best or last",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(line: str, said: str, run_train: Run) -> None:
    assert_one_line(run_train(*line.split(), code=USAGE), said)


@pytest.mark.slow
def test_a_strangers_weights_run_no_code(copied: Path, run_fast: Run) -> None:
    class Harm:
        def __reduce__(self):
            return os.system, (f"touch {copied / 'harm'}",)

    torch.save(
        {"state_dict": {}, "counts": {"steps": 1, "samples_seen": 1}, "x": Harm()}, copied / "checkpoints" / "best.ckpt"
    )
    line = ("initialization=from_run", f"initialization.run_dir={copied}", "seed=5")
    assert_one_line(run_fast(*line, code=FAILURE), "best.ckpt cannot be loaded")
    assert not (copied / "harm").exists()


@pytest.mark.parametrize("examples", [1438, 200])
def test_an_initialization_gets_the_first_training_examples(examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if examples < 1438:
        monkeypatch.setattr(serving, "MANY", 64 * examples + 63)
    data, module = build(composing("data=digits", "data.binarize=threshold", "initialization=glorot"))
    mean = data.images["train"][:examples].float().mean(0).clamp(0.001, 0.999)
    bias = module.vae.decoder.head.get_parameter("logits.linear.bias")
    torch.testing.assert_close(bias.detach(), mean.logit().flatten())
