"""The run folder: its name and identity, and that the same command completes what was begun."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.helpers.commands import (
    Outcome,
    Run,
    assert_one_line,
    assert_same_weights,
    failing_at,
    files_in,
    only_run,
    results,
    status,
)
from vaelab.errors import RunFolderError
from vaelab.files import write_atomically
from vaelab.runs import execute
from vaelab.runs.configuration import plain
from vaelab.runs.folder.contents import FORMAT_VERSION, read_config
from vaelab.runs.folder.identity import flatten, identity
from vaelab.runs.folder.names import sweep_dir, swept_values
from vaelab.runs.folder.run_folder import RunFolder
from vaelab.signals import Interrupted
from vaelab.training import VAEModule

# identity

KEYS = st.text("abc_", min_size=1, max_size=4)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("aé1=/, ~", max_size=3)
CONFIGS = st.dictionaries(
    KEYS, st.recursive(VALUES | st.lists(VALUES, max_size=3), lambda inner: st.dictionaries(KEYS, inner, max_size=3))
)


@pytest.mark.slow
@given(CONFIGS)
def test_the_identity_survives_the_disk_and_another_order(config: dict[str, Any]) -> None:
    stored = yaml.safe_dump(dict(reversed(config.items())), sort_keys=False)
    assert identity(yaml.safe_load(stored)) == identity(config)


def id_of(composed: Any, *overrides: str) -> str:
    return identity(plain(composed(*overrides)))


@pytest.mark.parametrize(
    "override",
    [
        *(
            "logger=tensorboard",
            "logger.project=other",
            "name=other",
            "sweep.name=other",
            "data_dir=elsewhere",
            "devices=[0]",
        ),
        *("trainer.max_epochs=99", "trainer.max_steps=99", "+runtime.anything=1"),
        *("~callbacks.figures", "+callbacks.collapse.threshold=0.1", "decoder.head._target_=vaelab.moved.Bernoulli"),
    ],
)
def test_what_cannot_change_the_result_is_no_part_of_it(override: str, composed: Any) -> None:
    assert id_of(composed, override) == id_of(composed)


@pytest.mark.parametrize(
    "override",
    [
        *("seed=1", "hidden_features=[500]", "data.binarize=fixed", "decoder=gaussian", "objective.closed_form=false"),
        *("estimator.num_samples=7", "lr_schedule=cosine", "trainer.val_check_interval=7", "compile=true"),
        *("callbacks.checkpoints.monitor=val/kl", "+callbacks.mine._target_=mine.Callback"),
        *("+nobody_thought_of=1", "+trainer.nor_of_this=1", "decoder.head._target_=vaelab.heads.Gaussian"),
    ],
)
def test_what_can_change_the_result_is_part_of_it(override: str, composed: Any) -> None:
    assert id_of(composed, override) != id_of(composed)


def test_only_our_classes_go_by_their_short_names(composed: Any) -> None:
    stored = plain(composed("+callbacks.mine=[{_target_: vaelab.a.C}]"))
    moved = plain(composed("+callbacks.mine=[{_target_: vaelab.b.c.C}]"))
    assert identity(stored) == identity(moved)
    assert id_of(composed, "optimizer._target_=mine.Adam") != id_of(composed, "optimizer._target_=yours.Adam")


def test_the_same_values_typed_otherwise_are_the_same_run(composed: Any) -> None:
    assert id_of(composed, "optimizer.lr=0.001", "objective.beta=1") == id_of(
        composed, "optimizer.lr=1e-3", "objective.beta=1.0"
    )


# names

SEPARATORS = "/=, \\'\"$()[]{}"
TYPED = st.text(f"{SEPARATORS}.aé~\n", max_size=10)


@settings(max_examples=30)
@given(st.lists(TYPED.filter(bool), max_size=3), TYPED, st.none() | st.just("fixed"))
def test_a_sweeps_name_holds_no_separator(overrides: list[str], name: str, fixed: str | None) -> None:
    found = sweep_dir("", name, overrides, None, fixed).removeprefix("/")
    assert found
    assert not set(found) & set(SEPARATORS)
    assert found not in (".", "..")


def swept(composed: Any, *overrides: str, parent: str = "") -> str:
    """The folder of a sweep over the latent size."""
    fixed = [override for override in overrides if "," not in override]
    return sweep_dir(parent, "", [*overrides, "latent_dim=2,3"], None, id_of(composed, *fixed))


def test_the_same_sweep_has_one_name_however_it_is_typed(composed: Any) -> None:
    name = swept(composed, "seed=1,2", "data=digits")
    assert "latent_dim" in name
    assert name == swept(composed, "data=digits", "seed=1,2")
    assert name == swept(composed, "seed=1,2", "data=digits", "optimizer.lr=0.001", "decoder=bernoulli")
    assert name == swept(composed, "seed=1,2", "data=digits", "objective={beta: 1.0}", "logger=none", "data_dir=x")
    assert name != swept(composed, "seed=1,2", "data=digits", "optimizer.lr=0.002")
    assert name != swept(composed, "seed=1,3", "data=digits")


@pytest.mark.parametrize(
    ("values", "others"),
    [
        ("2,5", ["2, 5", "choice(2,5)", "5,2", "range(2,6,3)", "2.0,5,5"]),
        ("[0.9,0.99],[0.8,1]", ["[0.9, 0.99], [0.8, 1]", "choice([0.8,1.0],[0.9,0.99])"]),
        ("{a:1,b:2},{}", ["{b: 2, a: 1}, {}"]),
        ("a,b", ["'a',\"b\"", "choice(b,a)"]),
        ("interval(0,1)", ["interval(0, 1)"]),
        ("glob(*)", ["glob( * )"]),
    ],
)
@pytest.mark.parametrize("fixed", [None, "0a1b2c3d"])
def test_the_same_values_give_a_sweep_one_name(values: str, others: list[str], fixed: str | None) -> None:
    def name(values: str, *more: str) -> str:
        return sweep_dir("", "", [f"swept={values}", *more], None, fixed)

    assert {name(other) for other in others} == {name(values)}
    assert len({name(text) for text in (values, "7,8", "tag(log, interval(0,1))", "interval(0,2)", "glob(a*)")}) >= 4
    for same in ("devices=[0,1]", "logger.tags=[a,b]", "logger.notes='a, b'", "threads=1,2"):
        assert name(values, f"runtime.{same}") == name(values)


def test_a_list_is_not_several_values() -> None:
    swept = swept_values(["betas=[0.9,0.99]", "note='a, b'", "+seed=0,1", "x={a:1,b:2}", "y=1,2", "y=1", "bad=(,"])
    assert set(swept) == {"seed", "bad"}


@pytest.mark.parametrize("name", ["a/b=c,d é", ".."])
def test_a_users_own_name_is_a_folder_below_runs(name: str, run_fast: Run, tmp_path: Path) -> None:
    path = run_fast(f'name="{name}"', "trainer.max_steps=1").path
    assert path.parent == tmp_path / "logs" / "runs"
    assert not set(path.name) & set("/=, ")
    assert not path.name.startswith(".")


def test_the_default_name_says_the_main_choices_and_the_identity(finished: Outcome) -> None:
    prefix, _, suffix = finished.path.name.rpartition("-")
    assert prefix == "digits-bernoulli-z2-s0"
    assert suffix == identity(read_config(finished.path))


# what is written


def test_the_stored_configuration_is_whole_and_holds_no_path(finished: Outcome) -> None:
    stored = yaml.safe_load((finished.path / "config.yaml").read_text())
    assert stored["format_version"] == FORMAT_VERSION
    assert stored["latent_dim"] == 2
    assert stored["network"]["hidden_features"] == 8  # interpolations are resolved
    assert not OmegaConf.missing_keys(OmegaConf.create(stored))
    texts = [str(value) for value in flatten(stored).values()]
    assert not [text for text in texts if text.startswith(("/", "~")) or str(finished.cwd) in text or "${" in text]


def test_the_record_holds_protocol_splits_hashes_and_versions(finished: Outcome) -> None:
    record = json.loads((finished.path / "record.json").read_text())
    assert record["data"]["sizes"] == {"train": 1438, "val": 180, "test": 179}
    assert record["data"]["pixels"] == "binary"
    assert set(record["data"]["sha256"]) == {"train", "val", "test"}
    assert {"vaelab", "torch", "python"} <= set(record["environment"]["versions"])


def test_a_damaged_config_does_not_hide_why_the_run_failed(finished: Outcome, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {"trainer": {"max_epochs": 1}})
    with folder.running({}):
        shutil.copy(finished.path / "checkpoints" / "last.ckpt", folder.checkpoints)
        folder.finish({})
    folder = RunFolder(tmp_path, {"trainer": {"max_epochs": 2}})

    def fail() -> None:
        with folder.running({}):
            (tmp_path / "config.yaml").write_text("{")
            raise KeyError("why")

    with pytest.raises(KeyError, match="why"):
        fail()


def test_a_failed_write_leaves_the_former_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    write_atomically(path, "former")

    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "latter")
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux, to name what is synchronised")
def test_a_file_is_on_the_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("renamed"), replace(self, to))[1])
    write_atomically(tmp_path / "metrics.json", "{}")
    assert done == [str(tmp_path / ".metrics.json.partial"), "renamed", str(tmp_path)]


# running again


def test_running_again_shows_the_stored_values_without_data(
    run_fast: Run, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_in(copied)
    monkeypatch.setattr(execute, "build", None)  # would raise
    again = run_fast("trainer.max_epochs=2")
    assert again.path == copied
    assert "finished before" in again.out
    assert f"{results(copied)['test/elbo']:.2f}" in again.out
    assert files_in(copied) == before


def assert_same_run(path: Path, other: Path) -> None:
    assert_same_weights(path, other, "last")
    assert_same_weights(path, other, "best")
    assert results(path) == results(other)
    assert status(path)["state"] == "done"


@pytest.mark.slow
def test_more_epochs_continue_to_the_weights_of_a_longer_run(run_fast: Run, long_run: Path) -> None:
    path = run_fast("trainer.max_epochs=1").path
    assert run_fast("trainer.max_epochs=4").path == path
    assert_same_run(path, long_run)
    assert read_config(path)["trainer"]["max_epochs"] == 4


@pytest.mark.slow
def test_more_steps_continue_from_the_middle_of_an_epoch(run_fast: Run) -> None:
    limits = ("trainer.max_epochs=9", "steps_per_call=4")
    path = run_fast(*limits, "trainer.max_steps=22").path  # an epoch has 15
    assert run_fast(*limits, "trainer.max_steps=40").path == path
    assert_same_run(path, run_fast(*limits, "trainer.max_steps=40", "name=whole").path)


def test_fewer_epochs_are_refused(run_fast: Run, copied: Path) -> None:
    before = files_in(copied)
    assert_one_line(run_fast("trainer.max_epochs=1", code=1, figures=True), "trainer.max_epochs=2", "rerun=true")
    assert files_in(copied) == before


@pytest.mark.slow
def test_fewer_steps_are_refused(run_fast: Run) -> None:
    path = run_fast("trainer.max_steps=2").path
    before = files_in(path)
    assert_one_line(run_fast("trainer.max_steps=1", code=1), "trainer.max_steps=2", "rerun=true")
    assert files_in(path) == before


@pytest.mark.parametrize(("override", "key"), [("seed=1", "seed=0 instead of 1"), ("decoder=gaussian", "decoder.head")])
def test_another_configuration_in_the_folder_is_refused(
    override: str, key: str, run_fast: Run, copied: Path, tmp_path: Path
) -> None:
    copied.rename(tmp_path / "here")
    outcome = run_fast("hydra.run.dir=here", "trainer.max_epochs=2", override, code=1)
    assert_one_line(outcome, key, "hydra.run.dir=")


@pytest.mark.slow
def test_rerun_starts_over_and_keeps_each_old_folder_aside(run_fast: Run, copied: Path) -> None:
    path, before = copied, files_in(copied)
    assert run_fast("trainer.max_epochs=2", "rerun=true").path == path
    run_fast("trainer.max_epochs=2", "rerun=true")
    old = sorted(path.parent.glob("*.old*"))
    assert [folder.name for folder in old] == [f"{path.name}.old1", f"{path.name}.old2"]
    assert files_in(old[0]) == before
    assert results(path) == results(old[0])
    assert status(path)["run_id"] != status(old[0])["run_id"]


def test_rerun_after_a_damaged_status_starts_over(run_fast: Run, copied: Path) -> None:
    (copied / "status.json").write_text("{")
    assert run_fast("rerun=true").path == copied
    assert status(copied)["state"] == "done"


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["metrics.json", "status.json", "record.json", "checkpoints/best.ckpt"])
def test_a_run_that_lost_a_file_is_completed_again(lost: str, run_fast: Run, copied: Path) -> None:
    before = results(copied)
    (copied / lost).unlink()
    run_fast("trainer.max_epochs=2")
    assert status(copied)["state"] == "done"
    last = {name: value for name, value in before.items() if not name.startswith("best/")}
    assert last.items() <= results(copied).items()


# interruptions


# who raises, at which call; with four epochs and one chunk in each
PLACES = {
    "before last.ckpt is replaced": (Path, "replace", 7),
    "test": (VAEModule, "test_step", 1),
    "end": (RunFolder, "finish", 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_an_interrupted_run_is_completed_to_the_last_bit(
    place: str, run_fast: Run, tmp_path: Path, long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, count = PLACES[place]
    error, code, state = RuntimeError("Bang"), 1, "failed"
    if place == "test":
        error, code, state = Interrupted(2), 130, "interrupted"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing_at(count, getattr(owner, name), error))
        run_fast("trainer.max_epochs=4", code=code)
    path = only_run(tmp_path)
    found = status(path)
    assert found["state"] == state
    assert found["error"]
    assert not (path / "metrics.json").exists()
    assert run_fast("trainer.max_epochs=4").path == path
    assert status(path)["run_id"] == found["run_id"]
    assert status(path)["seconds"] > found["seconds"] > 0
    assert "Traceback" in (path / "train.log").read_text()
    assert_same_run(path, long_run)


# sweeps


@pytest.mark.slow
def test_a_sweep_job_gives_the_weights_of_a_single_run(run_fast: Run, tmp_path: Path) -> None:
    run_fast("-m", "latent_dim=3", "seed=4,5")
    single = run_fast("latent_dim=3", "seed=5").path
    (job,) = tmp_path.glob("logs/sweeps/*/*seed_5*")
    assert_same_weights(single, job)
    assert results(single) == results(job)


# the class by itself


def test_making_a_run_folder_writes_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "new", {"seed": 0})
    assert not folder.finished
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_holds_its_lock_only_while_running(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path, {"seed": 0}).running({}),
        pytest.raises(RunFolderError, match=f"in use by process {os.getpid()}"),
        RunFolder(tmp_path, {"seed": 0}).running({}),
    ):
        pass
    with RunFolder(tmp_path, {"seed": 0}).running({}):
        assert status(tmp_path)["state"] == "running"


def test_a_folder_that_another_run_took_meanwhile_is_refused(tmp_path: Path) -> None:
    late = RunFolder(tmp_path, {"seed": 1})
    with RunFolder(tmp_path, {"seed": 0}).running({}):
        pass
    before = files_in(tmp_path)
    with pytest.raises(RunFolderError, match="with seed=0 instead of 1"), late.running({}):
        pass
    assert files_in(tmp_path) == before


def test_a_run_that_was_finished_meanwhile_is_not_done_again(tmp_path: Path) -> None:
    late = RunFolder(tmp_path, {"seed": 0})
    with (first := RunFolder(tmp_path, {"seed": 0})).running({}):
        first.finish({"val/elbo": -1.0})
    with pytest.raises(RunFolderError, match="finished by another process"), late.running({}):
        pass


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    with RunFolder(tmp_path, {"seed": 0}).running({"data": {"name": "a", "sha": 1}}):
        pass
    with (
        pytest.raises(RunFolderError, match="data that differ from data=a now"),
        RunFolder(tmp_path, {"seed": 0}).running({"data": {"name": "a", "sha": 2}}),
    ):
        pass


@pytest.mark.slow
def test_a_run_folder_path_may_have_spaces_and_signs(run_fast: Run, run_evaluate: Run, tmp_path: Path) -> None:
    run_fast('hydra.run.dir="some where/a=b, c"')
    assert status(tmp_path / "some where" / "a=b, c")["state"] == "done"
    run_evaluate('run_dir="some where/a=b, c"', "inference_gap=false")
    assert (tmp_path / "some where" / "a=b, c" / "evaluation.json").exists()


@pytest.mark.slow
def test_a_run_folder_may_be_moved_and_go_on(run_fast: Run, copied: Path, tmp_path: Path, long_run: Path) -> None:
    shutil.move(copied, tmp_path / "moved")
    assert run_fast("trainer.max_epochs=4", "hydra.run.dir=moved", "data_dir=there").path == tmp_path / "moved"
    assert_same_run(tmp_path / "moved", long_run)
