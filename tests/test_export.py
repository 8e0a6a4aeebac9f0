"""Weights as safetensors: they evaluate to the same numbers, and hold nothing but numbers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.helpers.commands import FAILURE, USAGE, Outcome, Run, assert_one_line, evaluation, results, run_main, weights
from vaelab import evaluate, export
from vaelab.runs.folder.weights import FORMAT, Weights, read_safetensors, write_safetensors

COUNTS = {"steps": "30", "samples_seen": "2876"}


@pytest.fixture
def folder(finished: Outcome, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(finished.path, copy, ignore=shutil.ignore_patterns("wandb", "figures"))
    return copy


def exported(folder: Path) -> Path:
    """Export the last weights; return the file."""
    outcome = run_main(export.main, folder.parent, f"run_dir={folder.name}")
    assert "written: run/checkpoints/last.safetensors" in outcome.out
    assert outcome.err == ""
    return folder / "checkpoints" / "last.safetensors"


def assert_same_tensors(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name])
        assert value.dtype == found[name].dtype


def test_an_export_holds_the_exact_weights_and_the_counts(folder: Path) -> None:
    expected, path = weights(folder), exported(folder)
    assert_same_tensors(load_file(path), expected)
    with safe_open(path, "pt") as file:
        assert file.metadata() == FORMAT | COUNTS
    (folder / "checkpoints" / "last.ckpt").unlink()
    assert_same_tensors(load_file(exported(folder)), expected)  # an export of the export
    assert not list(folder.rglob("*.partial"))


@pytest.mark.slow
def test_what_is_shared_evaluates_to_the_same_numbers(run_fast: Run, tmp_path: Path) -> None:
    folder = run_fast("model=shared", "decoder=gaussian_optimal").path
    line = (f"run_dir={folder}", "checkpoint=best")
    run_main(evaluate.main, tmp_path, *line)
    before = evaluation(folder)
    run_main(export.main, tmp_path, *line)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.suffix != ".safetensors" and path.name not in ("config.yaml", "record.json"):
            path.unlink()
    shutil.rmtree(folder / "evaluations")
    run_main(evaluate.main, tmp_path, *line)
    assert evaluation(folder) == before


def test_a_checkpoint_comes_before_its_export(folder: Path) -> None:
    exported(folder).write_bytes(b"damaged")
    run_main(evaluate.main, folder.parent, f"run_dir={folder.name}", "inference_gap=false")
    found = evaluation(folder)
    assert found["test/elbo"] == results(folder)["test/elbo"]


def test_views_and_tensors_that_share_memory_are_written_separately(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    state = {"a": whole, "b": whole, "c": whole.T, "d": whole[:, 1:3], "e": torch.tensor(1.5), "f": torch.zeros(0)}
    state |= {"g": torch.ones(1).expand(5), "h": torch.tensor([1], dtype=torch.int64)}
    write_safetensors(tmp_path / "x.safetensors", Weights(state, 3, 4, tmp_path))
    found = read_safetensors(tmp_path / "x.safetensors")
    assert (found.steps, found.samples_seen) == (3, 4)
    assert_same_tensors(found.state, state)


def saving(change: Callable[[dict[str, Any]], dict[str, Any]] = dict, **metadata: str) -> Callable[[Path], Any]:
    """Return a kind of damage: the file has other tensors or other metadata."""
    return lambda path: save_file(change(load_file(path)), path, FORMAT | COUNTS | metadata)


DAMAGED: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "cut short": ("cannot be loaded", lambda path: path.write_bytes(path.read_bytes()[:-10])),
    "a huge header": ("cannot be loaded", lambda path: path.write_bytes((2**60).to_bytes(8, "little") + b"{}")),
    "another format": ("is not a checkpoint of vaelab (expected format=vaelab", saving(format_version="2")),
    "steps of words": ("expected counts", saving(steps="many")),
    "too many steps": ("expected counts", saving(steps="9" * 5000)),
    "another name": ("cannot be loaded into the model", saving(lambda state: state | {"more": torch.zeros(1)})),
    "another type": ("cannot be loaded into the model", saving(lambda s: {name: t.half() for name, t in s.items()})),
    "a link": ("expected a file", lambda path: path.symlink_to(path.rename(path.with_name("moved")))),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_refused_in_one_line(kind: str, folder: Path) -> None:
    words, damage = DAMAGED[kind]
    damage(exported(folder))
    (folder / "checkpoints" / "last.ckpt").unlink()
    outcome = run_main(evaluate.main, folder.parent, f"run_dir={folder.name}", code=FAILURE)
    assert_one_line(outcome, "last.safetensors", words)
    assert not (folder / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("run_dir=nowhere", FAILURE, ("nowhere", "not a run folder")),
        ("run_dir=run checkpoint=first", USAGE, ("checkpoint", "last or best")),
        ("run_dir=run checkpoint=best", FAILURE, ("best.ckpt", "does not exist")),
    ],
)
def test_a_bad_export_is_refused_in_one_line(line: str, code: int, words: tuple[str, ...], folder: Path) -> None:
    (folder / "checkpoints" / "best.ckpt").unlink()
    assert_one_line(run_main(export.main, folder.parent, *line.split(), code=code), *words)
