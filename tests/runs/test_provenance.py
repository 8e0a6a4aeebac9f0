"""What `record.json` says of the code, and what is said when the user's own code has changed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from tests.helpers import my_parts
from tests.helpers.commands import Outcome, Run, composing
from vaelab.data import Array, Digits
from vaelab.errors import RunFolderError
from vaelab.runs import provenance
from vaelab.runs.build import build_data
from vaelab.runs.command_line import command_line
from vaelab.runs.execute import check_finished
from vaelab.runs.folder.contents import other_code, with_former_code
from vaelab.runs.provenance import _state_of, classes_of

SOURCE = """
from torch import nn
class Base(nn.Module):
    factor = 1
class Mine(Base):
    factor = {}
"""


def written(folder: Path, monkeypatch: pytest.MonkeyPatch, factor: int) -> dict[str, str]:
    """Write the user's own module, and return the hashes of its classes."""
    (folder / "own_part.py").write_text(SOURCE.format(factor))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "own_part", raising=False)
    import own_part  # pyright: ignore[reportMissingImports]

    return classes_of({"decoder": {"_target_": "own_part.Mine"}}, nn.Sequential(own_part.Base(), nn.Linear(1, 1)))


def test_only_the_users_own_classes_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written(tmp_path, monkeypatch, factor=1)
    assert before.keys() == {"own_part.Base", "own_part.Mine"}
    after = written(tmp_path, monkeypatch, factor=22)
    assert after["own_part.Base"] == before["own_part.Base"]
    assert after["own_part.Mine"] != before["own_part.Mine"]


def test_the_hash_is_of_the_code_that_was_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = written(tmp_path, monkeypatch, factor=1)
    assert caplog.messages == []
    (tmp_path / "own_part.py").write_text(SOURCE.format(22))
    assert classes_of({"decoder": {"_target_": "own_part.Mine"}}, nn.Identity()) == before
    (line,) = caplog.messages
    assert line.startswith("own_part.Mine changed in its file, but not in this process")


def test_the_commit_is_known_and_whether_the_tree_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _state_of(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for line in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *line], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "untracked").touch()
    assert _state_of(tmp_path) == {"commit": head, "clean": True}
    (tmp_path / "file").write_text("2")
    assert _state_of(tmp_path) == {"commit": head, "clean": False}
    monkeypatch.setattr(provenance, "_git", lambda folder, verb, *options: None if verb == "status" else head)
    assert _state_of(tmp_path) == {"commit": head, "clean": None}


def test_the_command_is_as_typed_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "very-secret-1")
    typed = ["/home/x/vaelab/train.py", "name=a b", "+x=very-secret-1"]
    assert command_line(typed) == "python -m vaelab.train 'name=a b' +x=[MY_API_KEY]"
    assert command_line(["/bin/vaelab-train", "seed=1"]) == "vaelab-train seed=1"


def test_the_record_has_the_provenance(finished: Outcome) -> None:
    found = json.loads((finished.path / "record.json").read_text())["provenance"]
    assert found["command"].startswith("vaelab data=digits hidden_features=8")
    assert found["classes"] == {}
    assert found["vaelab"].keys() == {"version", "commit", "clean"}


def test_a_finished_run_says_that_its_code_changed(
    copied: Path, run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "strangers.py").write_text("raise SystemExit('a folder chose what is imported')")
    record = json.loads((copied / "record.json").read_text())
    stored = {f"{my_parts.MyHead.__module__}.MyHead": "0" * 64, "strangers.Class": "0" * 64, "os.environ": "0" * 64}
    record["provenance"]["classes"] = stored
    (copied / "record.json").write_text(json.dumps(record))
    outcome = run_fast("trainer.max_epochs=2", figures=True)
    assert outcome.err.count("\n") == 1
    assert "tests.helpers.my_parts.MyHead changed since the run began" in outcome.err
    assert "rerun=true" in outcome.err
    assert "finished before" in outcome.out


def test_a_finished_run_refuses_other_data_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, level in (("first", 200), ("same", 200), ("other", 201)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "mine.npy", np.full((10, 2, 2), level))
    cfg, records = composing("data=array", "data.file=mine.npy", f"data_dir={tmp_path / 'first'}"), {}
    data = build_data(cfg)
    data.serve("unit")
    (tmp_path / "record.json").write_text(json.dumps({"data": data.record()}))
    cfg.runtime.data_dir = str(tmp_path / "same")
    check_finished(cfg, tmp_path, records)
    monkeypatch.setenv("VAELAB_DATA_DIR", str(tmp_path / "other"))
    cfg.runtime.data_dir = "${oc.env:VAELAB_DATA_DIR}"
    with pytest.raises(RunFolderError, match="trained on data that differ from data=array now"):
        check_finished(cfg, tmp_path, records)
    monkeypatch.setattr(Array, "splits", None)
    cfg.runtime.data_dir = str(tmp_path / "same")
    check_finished(cfg, tmp_path, records)  # reads nothing again


def test_a_finished_run_reads_no_data_that_are_verified(finished: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Digits, "splits", None)
    check_finished(composing("data=digits"), finished.path, {})


def test_a_run_that_goes_on_keeps_its_former_provenance(tmp_path: Path) -> None:
    first, second = {"command": "a", "classes": {"own.Mine": "1"}}, {"command": "b", "classes": {"own.Mine": "2"}}
    assert with_former_code(tmp_path, {"provenance": first}) == {"provenance": first}
    (tmp_path / "record.json").write_text(json.dumps({"provenance": first}))
    assert other_code(tmp_path, first["classes"], "so") == []
    (warning,) = other_code(tmp_path, second["classes"], "it goes on")
    assert warning == "own.Mine changed since the run began, so it goes on"
    stored = with_former_code(tmp_path, {"provenance": second})["provenance"]
    assert stored == second | {"before": [first]}
    (tmp_path / "record.json").write_text(json.dumps({"provenance": stored}))
    longer = second | {"command": "b trainer.max_epochs=9"}
    assert with_former_code(tmp_path, {"provenance": longer})["provenance"] == longer | {"before": [first]}


def test_an_old_record_says_nothing(tmp_path: Path) -> None:
    assert other_code(tmp_path, {"own.Mine": "1"}, "so") == []
    (tmp_path / "record.json").write_text(json.dumps({"provenance": {"classes": 3}}))
    assert other_code(tmp_path, {"own.Mine": "1"}, "so") == []
