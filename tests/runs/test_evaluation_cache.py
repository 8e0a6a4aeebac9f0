"""The values of an evaluation on disk: what was kept comes back, and nothing else does."""

import math
import os
import time
from contextlib import suppress

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from vaelab.errors import RunFolderError
from vaelab.evaluation.per_example import Records
from vaelab.runs.evaluating import cache
from vaelab.runs.evaluating.cache import SECONDS, KeptEvaluation, digest

NEEDED = {(i, 0): (size, ["elbo"]) for i, size in enumerate((3, 3, 3, 3, 2))}
NEEDED |= {(0, 1): (2, ["slow"]), (0, 2): (1, ["slow"])}


def records(*numbers):
    """Blocks of three examples (the last of two), with a scalar, a vector, and two values for each block."""
    found = Records()
    for number in numbers:
        n = 2 if number == 4 else 3
        values = {"elbo": torch.arange(n) + 10.0 * number, "mean": torch.full((n, 2), float(number))}
        found.add((number, 0), values | {"extra": torch.tensor([number, number + 0.5])})
    return found


@pytest.fixture
def kept(tmp_path):
    kept = KeptEvaluation(tmp_path, "x")
    kept.folder.mkdir()
    return kept


def interrupted(kept, records):
    with suppress(KeyboardInterrupt), kept.keeping(records):
        raise KeyboardInterrupt


def test_columns_are_in_the_order_of_blocks_and_parts():
    found = records(4, 0)
    found.add((0, 2), {"slow": torch.tensor([3.0])})
    found.add((0, 1), {"slow": torch.tensor([1.0, 2.0])})
    assert found.column("elbo").tolist() == [0, 1, 2, 40, 41]
    assert found.column("slow").tolist() == [1, 2, 3]
    assert found.mean("elbo") == pytest.approx(84 / 5)
    found.add((1, 0), {"narrow": torch.full((1000,), 1e4 + 1 / 1024)})
    assert found.mean("narrow") == 1e4 + 1 / 1024  # in float64


def test_what_is_kept_comes_back_block_by_block(tmp_path):
    kept, found = KeptEvaluation(tmp_path, "x"), records(1, 0, 4)
    found.add((0, 1), {"slow": torch.tensor([1.0, 2.0])})
    with kept.held(anew=False):
        assert kept.load(NEEDED).blocks == {}
        kept.finish(found)
    torch.testing.assert_close(kept.load(NEEDED).blocks, found.blocks, rtol=0, atol=0)
    assert [path.name for path in kept.folder.iterdir()] == ["x.safetensors"]
    assert load_file(kept.whole)["elbo"].tolist() == [0, 1, 2, 10, 11, 12, 40, 41]


def test_shares_of_several_processes_are_put_together(kept, tmp_path, monkeypatch):
    for rank, numbers in enumerate([(0, 3), (1,), ()]):
        monkeypatch.setattr(cache, "this_process", lambda rank=rank: (rank, 3))
        interrupted(KeptEvaluation(tmp_path, "x"), records(*numbers))
    assert len(kept.files) == 2  # who knows nothing writes nothing
    torch.testing.assert_close(kept.load(NEEDED).blocks, records(0, 1, 3).blocks, rtol=0, atol=0)
    kept.finish(records(0, 1, 2, 3, 4))
    assert kept.files == [kept.whole]


def test_it_is_written_every_few_seconds_and_no_more_often(kept, monkeypatch):
    began, clock = kept.written, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for later, files in ((1.0, []), (SECONDS - 0.1, []), (SECONDS + 0.1, [kept.own])):
        clock[0] = began + later
        kept.keep(records(0))
        assert kept.files == files
    assert kept.written == clock[0]


def test_anew_forgets_what_was_found(kept):
    kept.finish(records(0))
    kept.write(kept.own, records(1))
    with kept.held(anew=True):
        assert kept.load(NEEDED).blocks == {}


def test_another_process_at_it_is_refused(kept):
    with FileLock(kept.folder / ".x.lock"), pytest.raises(RunFolderError, match="another process"), kept.held(False):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match="cannot write"), KeptEvaluation(tmp_path, "x").held(False):
        pass


@pytest.mark.parametrize("link", ["evaluations", "evaluations/.x.lock"])
def test_links_that_a_strangers_folder_came_with_are_refused(link, tmp_path):
    (tmp_path / "precious").write_text("precious")
    path = tmp_path / "run" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(RunFolderError, match="is a link"), KeptEvaluation(tmp_path / "run", "x").held(False):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def with_layout(change):
    """Return a kind of damage: the table of blocks is another."""
    return lambda columns: columns | {"blocks": change(columns["blocks"])}


DAMAGE = {
    "no layout": lambda columns: {name: column for name, column in columns.items() if name != "blocks"},
    "a layout of another shape": with_layout(lambda layout: torch.zeros(3)),
    "sizes that do not add up": with_layout(lambda layout: layout + torch.tensor([0, 0, 1, 1, 1])),
    "blocks that there are not": with_layout(lambda layout: layout + torch.tensor([4, 0, 0, 0, 0])),
    "a block twice": with_layout(lambda layout: layout * torch.tensor([0, 1, 1, 1, 1])),
    "a value lacking": lambda columns: {**columns, "other": columns["elbo"], "elbo": torch.zeros(0)},
}


@pytest.mark.parametrize("kind", [*DAMAGE, "cut short"])
def test_a_damaged_file_is_told_of_and_evaluated_again(kind, kept, caplog):
    kept.finish(records(0, 1))
    if kind in DAMAGE:
        save_file(DAMAGE[kind](load_file(kept.whole)), kept.whole)
    else:
        kept.whole.write_bytes(kept.whole.read_bytes()[:-5])
    assert kept.load(NEEDED).blocks == {}
    assert "is damaged" in caplog.text


def test_a_name_changes_with_whatever_can_change_the_numbers():
    weights = {"w": torch.ones(2)}
    nearly = {"w": torch.tensor([1.0, math.nextafter(1.0, 2.0)], dtype=torch.float64)}
    others = [({"a": 1}, weights), ({"a": 2}, weights), ({"a": 1}, nearly), ({"a": 1}, {"v": torch.ones(2)})]
    assert len({digest(*other) for other in others}) == 4
    assert digest({"a": 1}, weights) == digest({"a": 1}, {"w": torch.ones(2)})
