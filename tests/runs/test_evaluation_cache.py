import math
import os
import time
from contextlib import suppress

import pytest
import torch
from filelock import FileLock

from vaelab.errors import RunFolderError
from vaelab.evaluation.per_example import Records
from vaelab.runs.evaluating.cache import SECONDS, KeptEvaluation, columns_of, digest

NEEDED = {(i, 0): (size, ["elbo"]) for i, size in enumerate((3, 3, 3, 3, 2))} | {(0, 1): (2, ["slow"])}


def records(*numbers):
    """Blocks of three examples (the last of two), with a scalar, a vector, and two values for each block."""
    found = Records()
    for number in numbers:
        n = 2 if number == 4 else 3
        found.add(
            (number, 0),
            {
                "elbo": torch.arange(n) + 10.0 * number,
                "mean": torch.full((n, 2), float(number)),
                "extra": torch.tensor([number, number + 0.5]),
            },
        )
    return found


def same(one, other):
    a, b = columns_of(one), columns_of(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def interrupted(kept, before, more):
    """An evaluation that is interrupted once it has found more."""
    with suppress(KeyboardInterrupt), kept.keeping(before):
        before.blocks |= more.blocks
        raise KeyboardInterrupt


def test_columns_are_in_the_order_of_blocks_whatever_came_first():
    assert same(records(4, 0, 2), records(0, 2, 4))
    assert records(4, 0).column("elbo").tolist() == [0, 1, 2, 40, 41]
    assert records(4, 0).column("elbo").dtype == torch.float64
    assert records(0, 4).mean("elbo") == pytest.approx((0 + 1 + 2 + 40 + 41) / 5)


def test_parts_of_blocks_come_in_order_beside_the_whole(tmp_path):
    found = records(0, 1)
    found.add((0, 2), {"slow": torch.tensor([3.0])})
    found.add((0, 1), {"slow": torch.tensor([1.0, 2.0])})
    assert found.column("slow").tolist() == [1, 2, 3]
    assert len(found.column("elbo")) == 6
    kept = KeptEvaluation(tmp_path, "x")
    kept.folder.mkdir()
    kept.finish(found)
    again = kept.load(NEEDED | {(0, 2): (1, ["slow"])})
    assert same(again, found)
    assert again.blocks.keys() == found.blocks.keys()


def test_a_mean_is_taken_in_float64():
    found = Records()
    found.add((0, 0), {"elbo": torch.full((1000,), 1e4 + 1 / 1024)})
    assert found.mean("elbo") == 1e4 + 1 / 1024


def test_what_is_kept_comes_back(tmp_path):
    kept = KeptEvaluation(tmp_path, "test-last")
    with kept.held(anew=False):
        assert kept.load(NEEDED).blocks == {}
        kept.finish(records(0, 1, 4))
    assert same(kept.load(NEEDED), records(0, 1, 4))
    assert [path.name for path in (tmp_path / "evaluations").iterdir()] == ["test-last.safetensors"]


def test_shares_of_several_processes_are_put_together_by_any_number_of_them(tmp_path):
    for rank, numbers in enumerate([(0, 3), (1,), (4,)]):
        share = KeptEvaluation(tmp_path, "x", rank, 3)
        share.folder.mkdir(exist_ok=True)
        interrupted(share, Records(), records(*numbers))
    alone = KeptEvaluation(tmp_path, "x")
    assert same(alone.load(NEEDED), records(0, 1, 3, 4))
    alone.finish(records(0, 1, 2, 3, 4))
    assert alone.parts() == []


def test_nothing_new_is_not_written(tmp_path):
    kept = KeptEvaluation(tmp_path, "x")
    interrupted(kept, records(1), Records())
    assert not kept.folder.exists()


def test_it_is_written_every_few_seconds_and_no_more_often(tmp_path, monkeypatch):
    kept = KeptEvaluation(tmp_path, "x")
    kept.folder.mkdir()
    began, clock = kept.written, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for later, parts in ((1.0, []), (SECONDS - 0.1, []), (SECONDS + 0.1, [kept.own])):
        clock[0] = began + later
        kept.keep(records(0))
        assert kept.parts() == parts
    assert kept.written == clock[0]


def test_anew_forgets_what_was_found(tmp_path):
    kept = KeptEvaluation(tmp_path, "x")
    with kept.held(anew=False):
        kept.finish(records(0))
        kept.write(kept.own, records(1))
    with kept.held(anew=True):
        assert kept.load(NEEDED).blocks == {}


def test_another_process_at_it_is_refused(tmp_path):
    kept = KeptEvaluation(tmp_path, "x")
    kept.folder.mkdir()
    with FileLock(kept.folder / ".x.lock"), pytest.raises(RunFolderError, match="another process"), kept.held(False):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match="cannot write"), KeptEvaluation(tmp_path, "x").held(False):
        pass


def test_links_that_a_strangers_folder_came_with_are_refused(tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "evaluations").symlink_to(victim)
    with pytest.raises(RunFolderError, match="is a link"), KeptEvaluation(tmp_path / "run", "x").held(False):
        pass
    (tmp_path / "other" / "evaluations").mkdir(parents=True)
    precious = victim / "precious"
    precious.write_text("precious")
    (tmp_path / "other" / "evaluations" / ".x.lock").symlink_to(precious)
    with pytest.raises(RunFolderError, match="is a link"), KeptEvaluation(tmp_path / "other", "x").held(False):
        pass
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    "damage", ["cut", "text", "layout", "sizes", "number", "part", "twice", "none", "lacking", "whole", "short"]
)
def test_a_damaged_file_is_told_of_and_evaluated_again(damage, tmp_path, caplog):
    from safetensors.torch import save_file

    kept = KeptEvaluation(tmp_path, "x")
    kept.folder.mkdir()
    columns = columns_of(records(0, 1))
    if damage == "layout":
        columns["blocks"] = torch.zeros(3)
    elif damage == "sizes":
        columns["blocks"][:, 2] += 1
    elif damage == "number":
        columns["blocks"][:, 0] += 4
    elif damage == "part":
        columns["blocks"][:, 1] += 1
    elif damage == "twice":
        columns["blocks"][:, 0] = 0
    elif damage == "lacking":
        del columns["elbo"]
        columns["blocks"] = columns["blocks"][:, [0, 1, 3, 4]]
    elif damage == "whole":
        columns["elbo"] = columns["elbo"].int()
    elif damage == "short":
        columns["elbo"] = columns["elbo"][:2]
        columns["blocks"][:, 2] = 1
    elif damage == "none":
        del columns["blocks"]
    save_file(columns, kept.whole)
    if damage == "cut":
        kept.whole.write_bytes(kept.whole.read_bytes()[:-5])
    elif damage == "text":
        kept.whole.write_text("hello")
    assert kept.load(NEEDED).blocks == {}
    assert "is damaged" in caplog.text


def test_a_name_changes_with_whatever_can_change_the_numbers():
    weights = {"w": torch.ones(2)}
    names = {
        digest({"a": 1}, weights),
        digest({"a": 2}, weights),
        digest({"a": 1}, {"w": torch.tensor([1.0, math.nextafter(1.0, 2.0)], dtype=torch.float64)}),
        digest({"a": 1}, {"v": torch.ones(2)}),
    }
    assert len(names) == 4
    assert digest({"a": 1}, {"w": torch.ones(2)}) in names
