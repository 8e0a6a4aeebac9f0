"""Run folders from a stranger are refused by name; each exploit works on code that does not check."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.helpers.commands import FAILURE, USAGE, Outcome, Run, assert_one_line, evaluation, results, run_main
from vaelab import evaluate, export
from vaelab.errors import RunFolderError
from vaelab.files import write_atomically
from vaelab.runs.configuration import plain
from vaelab.runs.folder.contents import FORMAT_VERSION, load_checkpoint, read_config
from vaelab.security.allow_list import check_trusted
from vaelab.security.pickle_scan import check_pickle

HUGE = 2**40
Config = dict[str, Any]


@pytest.fixture
def stranger(finished: Outcome, tmp_path: Path) -> Path:
    """A run folder that can be tampered with, in the working folder of the commands."""
    folder = tmp_path / "stranger"
    shutil.copytree(finished.path, folder, ignore=shutil.ignore_patterns("wandb", "figures"))
    return folder


def plant(folder: Path, key: str, value: Any) -> None:
    """Set a dotted key of a folder's configuration."""
    config = node = yaml.safe_load((folder / "config.yaml").read_text())
    *parents, last = key.split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def contents(folder: Path) -> dict[Path, bytes | None]:
    found = (path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts)
    return {path: path.read_bytes() if path.is_file() else None for path in found}


def assert_refused(
    folder: Path, *words: str, main: Any = evaluate.main, more: tuple[str, ...] = (), code: int = FAILURE
) -> None:
    """Assert one line, the exit code, and that nothing in the working folder has changed."""
    before = contents(folder.parent)
    assert_one_line(run_main(main, folder.parent, f"run_dir={folder.name}", *more, code=code), *words)
    assert contents(folder.parent) == before


# classes that are none


class Reduced:
    """An object that calls the function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


def call(target: str, *arguments: Any, **named: Any) -> Config:
    return {"_target_": target, "_args_": list(arguments)} | named


class Planted:
    """Files beside the run folder, and nodes of a configuration that would make `fired` appear there."""

    def __init__(self, folder: Path) -> None:
        self.fired = folder / "fired"
        (folder / "loot").write_text("secret")
        (folder / "evil.py").write_text(f"open({str(self.fired)!r}, 'w')\nclass Head: ...\n")
        (folder / "pickled").write_bytes(pickle.dumps(Reduced(open, str(self.fired), "w")))
        loot, pickled, fired = (str(folder / name) for name in ("loot", "pickled", "fired"))
        self.nodes = {
            "objective": call("shutil.copy", loot, fired),
            "data": call("torch.serialization.shutil.copy", loot, fired),  # by an import of a module
            "decoder.head": call("vaelab.heads.scales.torch.load", pickled, weights_only=False),  # by one of ours
            "prior": call("vaelab.files.write_atomically", call("pathlib.Path", fired), "x"),
            "model": {"_target_": "evil.Head"},
        }

    def fire(self, node: Config) -> bool:
        """Return whether the node runs what was planted when it is instantiated unchecked; then forget it."""
        with suppress(Exception):
            instantiate(OmegaConf.create({"node": node}))
        fired = self.fired.exists()
        self.forget()
        return fired

    def forget(self) -> None:
        shutil.rmtree(self.fired) if self.fired.is_dir() else self.fired.unlink(missing_ok=True)
        sys.modules.pop("evil", None)


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planted:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return Planted(tmp_path)


@pytest.mark.parametrize("place", ["objective", "data", "decoder.head", "prior", "model"])
def test_what_is_no_model_is_neither_made_nor_imported(place: str, stranger: Path, planted: Planted) -> None:
    node = planted.nodes[place]
    assert planted.fire(node)
    plant(stranger, place, node)
    assert_refused(stranger, "config.yaml", place, node["_target_"])
    assert "evil" not in sys.modules


@pytest.mark.parametrize("part", ["data", "decoder", "objective", "estimator"])
def test_what_is_not_public_is_refused_everywhere(part: str) -> None:
    imported = ("torch.nn.functional.tanh", "vaelab.heads.torch", "vaelab.vae.nn", "vaelab.vae.Head", "vaelab.heads")
    inner = ("vaelab.heads.bernoulli.Bernoulli", "vaelab.data.download.fetch", "vaelab.heads.__builtins__")
    for target in ("os.system", "builtins.eval", "torch.nn.Linear", *imported, *inner, "", None, ["os"]):
        with pytest.raises(RunFolderError, match=rf"{part}\.x\._target_ is .* expected a public name of"):
            check_trusted({part: {"x": {"_target_": target}}}, (), Path("config.yaml"))


def test_public_names_pass_for_their_own_part_alone() -> None:
    public = {
        "data": "vaelab.data.Array",
        "objective": "vaelab.objectives.ELBO",
        "estimator": "vaelab.estimators.Several",
    }
    public |= {"decoder": "vaelab.vae.Conditional", "encoder": "torch.nn.Tanh", "prior": "vaelab.heads.Bernoulli"}
    for part, target in public.items():
        check_trusted({part: {"_target_": target}}, (), Path("config.yaml"))
        for other in {"data", "objective", "estimator"} - {part}:
            with pytest.raises(RunFolderError, match=f"{other}._target_ is .* expected a public name of"):
                check_trusted({other: {"_target_": target}}, (), Path("config.yaml"))


@pytest.mark.parametrize(
    ("key", "wrap"),
    [("seed", lambda node: [node]), ("encoder.head.scale", lambda node: {"a": [{"b": [[node]]}]})],
)
def test_no_nesting_hides_a_class(key: str, wrap: Callable[[Config], Any], stranger: Path, planted: Planted) -> None:
    node = planted.nodes["model"]
    assert planted.fire({"x": wrap(node)})
    plant(stranger, key, wrap(node))
    assert_refused(stranger, key, "evil.Head", "trust=[evil]")
    assert not planted.fired.exists()


def test_what_evaluation_does_not_need_is_never_made(stranger: Path, planted: Planted, finished: Outcome) -> None:
    node = planted.nodes["data"]
    assert planted.fire(node)
    for key in ("optimizer", "lr_schedule", "gradient_clip", "weight_prior", "runtime", "trainer", "callbacks"):
        plant(stranger, key, node)
    run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}", "inference_gap=false")
    assert not planted.fired.exists()
    found = evaluation(stranger)
    assert found["test/elbo"] == results(finished.path)["test/elbo"]


@pytest.mark.parametrize(
    ("key", "value", "code", "words"),
    [
        ("data", None, FAILURE, ("data", "_target_")),
        ("decoder._target_", "vaelab.networks.MLP", FAILURE, ("config.yaml", "MLP")),
        ("network.activation", "\x1b]0;title\x07", FAILURE, ("\\x1b",)),
        ("network.activation", "${oc.env:SECRET}", FAILURE, ("network.activation", "oc.env:SECRET")),
        ("latent_dim", "???", FAILURE, ("latent_dim",)),
        ("objective.num_samples", 10_001, FAILURE, ("objective.num_samples", "at most 10,000")),
        ("estimator.max_batch_elements", HUGE, FAILURE, ("estimator.max_batch_elements", "at most 100,000,000")),
        ("trainer.precision", {"_target_": "os.getcwd"}, FAILURE, ("trainer.precision", "os.getcwd")),
        ("trainer.precision", "${oc.env:SECRET}", FAILURE, ("trainer.precision", "oc.env:SECRET")),
        ("trainer.precision", "16-true", USAGE, ("trainer.precision", "bf16-mixed")),
    ],
)
def test_a_configuration_of_another_kind_is_refused(
    key: str, value: Any, code: int, words: tuple[str, ...], stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    plant(stranger, key, value)
    assert_refused(stranger, *words, code=code)


# trust


def test_a_trusted_package_passes_and_what_it_imports_does_not(
    stranger: Path, planted: Planted, finished: Outcome
) -> None:
    package = stranger.parent / "mypkg"
    package.mkdir()
    (package / "__init__.py").write_text("import os\nfrom vaelab.heads import Bernoulli\nclass Mine(Bernoulli): ...\n")
    plant(stranger, "decoder.head._target_", "mypkg.Mine")
    assert_refused(stranger, "decoder.head._target_", "mypkg.Mine", "trust=[mypkg]")
    run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}", "trust=[mypkg]", "inference_gap=false")
    found = evaluation(stranger)
    assert found["test/elbo"] == results(finished.path)["test/elbo"]
    for target in ("mypkg.os.system", "mypkg.Bernoulli", "mypkgs.Mine"):
        plant(stranger, "decoder.head._target_", target)
        assert_refused(stranger, "decoder.head._target_", target, more=("trust=[mypkg]",))


@pytest.mark.parametrize("value", ["[my-pkg]", "{a:1}", "[os]", "[vaelab.runs]"])
def test_a_library_or_no_package_cannot_be_trusted(value: str, stranger: Path) -> None:
    assert_refused(stranger, "trust", more=(f"trust={value}",), code=USAGE)


# YAML and JSON


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
YAML = {
    "an object": ("seed: !!python/object/apply:os.mkdir [fired]\n", "tag"),
    "an anchor": (LAUGHS, "anchor or alias a0"),
    "flows in flows": ("a: " + "[" * 5000 + "]" * 5000, "more than 32 levels"),
    "a large file": ("a: " + "x" * 2**21, "more than 1,048,576 bytes"),
    "many values": ("a: [" + "1," * 500_000 + "]", "more than 20,000 keys and values"),
    "a key twice": ("seed: 1\nseed: 2\n", "the key seed twice"),
    "a key that is a number": ("1: 2\n", "the key 1"),
    "base 60": ("a: 1" + ":1" * 100_000, "64 bits"),
    "a number of a million digits": ("a: 0x" + "f" * 1_000_000, "64 bits"),
    "escapes": ('"\\e[2J": 1\n"\\e[2J": 2\n', "\\x1b"),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_is_more_than_plain_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, word = YAML[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("format_version: 1\n" + text)
    with pytest.raises(RunFolderError) as caught:
        read_config(tmp_path)
    assert "config.yaml" in str(caught.value)
    assert word in str(caught.value)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "fired").exists()


def test_our_own_configurations_and_dates_pass(composed: Callable[..., Any], tmp_path: Path) -> None:
    for line in ("hidden_features=[8,8] decoder=gaussian_fixed", "experiment=aevb_frey_face lr_schedule=plateau"):
        config = plain(composed(*line.split())) | {"format_version": FORMAT_VERSION, "note": "2020-13-45"}
        write_atomically(tmp_path / "config.yaml", yaml.safe_dump(config))
        assert read_config(tmp_path) == {key: value for key, value in config.items() if key != "format_version"}


@pytest.mark.parametrize(
    ("file", "kind"), [("config.yaml", "pipe"), ("record.json", "device"), ("checkpoints/last.ckpt", "link")]
)
def test_what_is_not_a_regular_file_is_refused_at_once(file: str, kind: str, stranger: Path) -> None:
    path = stranger / file
    path.rename(stranger / "moved")
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else stranger / "moved")
    outcome = run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}", code=FAILURE)
    assert_one_line(outcome, file, "expected a file")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"data": ' + "9" * 9000 + "}", "{}" + " " * 2**22])
def test_a_damaged_record_is_refused(content: str, stranger: Path) -> None:
    (stranger / "record.json").write_text(content)
    assert_refused(stranger, "record.json")


@pytest.mark.parametrize(
    ("file", "key", "value", "words"),
    [
        ("status.json", "run_id", "../../../etc", ("status.json", "run_id", "the id of a W&B run")),
        ("metrics.json", "val/elbo", "x", ("metrics.json", "val/elbo")),
        ("config.yaml", "trainer.max_epochs", "many", ("config.yaml", "trainer.max_epochs")),
    ],
)
def test_a_run_is_not_completed_from_strange_values(
    file: str, key: str, value: Any, words: tuple[str, ...], copied: Path, tmp_path: Path, run_fast: Run
) -> None:
    if file == "config.yaml":
        plant(copied, key, value)
    else:
        content = json.loads((copied / file).read_text()) | {key: value}
        (copied / file).write_text(json.dumps(content))
    before = contents(tmp_path)
    assert_one_line(run_fast("trainer.max_epochs=2", code=FAILURE, figures=True), *words)
    assert contents(tmp_path) == before


# checkpoints


def last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def change_checkpoint(folder: Path, change: Callable[[Config], Any]) -> None:
    """Replace `last.ckpt` by what `change` makes of it."""
    torch.save(change(torch.load(last(folder), weights_only=True)), last(folder))


def with_weight(change: Callable[[torch.Tensor], Any]) -> Callable[[Config], Config]:
    """Return a change of the first weight."""

    def changed(checkpoint: Config) -> Config:
        state = checkpoint["state_dict"]
        name, tensor = next(iter(state.items()))
        return checkpoint | {"state_dict": state | {name: change(tensor)}}

    return changed


def much_memory(checkpoint: Config) -> Config:
    return checkpoint | {"hyper_parameters": Reduced(bytearray, 2**30)}


def nested(depth: int) -> Any:
    value: Any = ()
    for _ in range(depth):
        value = (value, value)
    return value


OTHER_MODELS: dict[str, tuple[str, Callable[[Config], Any]]] = {
    "another name": ("vae.extra", lambda c: c | {"state_dict": c["state_dict"] | {"vae.extra": torch.ones(2)}}),
    "a name less": ("absent", lambda c: c | {"state_dict": dict(list(c["state_dict"].items())[1:])}),
    "another shape": ("[1, ", with_weight(lambda tensor: tensor[:1].clone())),
    "another type": ("float64", with_weight(torch.Tensor.double)),
}
OTHER_KINDS: dict[str, tuple[str, Callable[[Config], Any]]] = {
    "sparse": ("expected tensors and plain data", with_weight(torch.Tensor.to_sparse)),
    "a number": ("names and tensors", with_weight(lambda _: 1.0)),
    "expanded": ("tensors of 4,398", with_weight(lambda _: torch.ones(1).expand(HUGE))),
    "negative counts": ("counts", lambda c: c | {"counts": {"steps": -1, "samples_seen": 2876}}),
    "no counts": ("expected counts and a state_dict", lambda c: {"state_dict": c["state_dict"]}),
    "tuples in tuples": ("counts", lambda c: {"counts": nested(40), "state_dict": {}}),
    "an object": ("_io", lambda c: c | {"hyper_parameters": Reduced(io.StringIO)}),
    "much memory": ("bytearray", much_memory),
    "a pickle of megabytes": ("4,194,304 bytes", lambda c: {"x": "x" * 2**23}),
}


def text(value: str) -> bytes:
    return pickle.BINUNICODE + len(value).to_bytes(4, "little") + value.encode()


def again_and_again(function: str, first: bytes, *more: bytes) -> bytes:
    """Return a pickle that calls a function a thousand times with the same long argument."""
    named = pickle.GLOBAL + function.encode() + b"\n"
    arguments = pickle.BINGET + b"\x00" + b"".join(more) + (pickle.TUPLE2 if more else pickle.TUPLE1)
    return b"".join([first, pickle.BINPUT, b"\x00", pickle.MARK, *[named + arguments + pickle.REDUCE] * 1000])


def deep(depth: int) -> bytes:
    """Return a pickled tuple of two of a tuple of two of ..., short because each is stored once."""
    doubled = pickle.BINPUT + b"\x00" + pickle.BINGET + b"\x00" + pickle.TUPLE2
    return pickle.EMPTY_TUPLE + doubled * depth


LONG_LIST = pickle.EMPTY_LIST + pickle.MARK + b"K\x01" * 100_000 + pickle.APPENDS
LONG_TEXT = text("x" * 100_000)
SET = pickle.GLOBAL + b"__builtin__\nset\n"
SAME_HASH = [pickle.LONG1 + b"\x0a" + ((2**61 - 1) * (i + 9)).to_bytes(10, "little") + b"K\x00" for i in range(50_000)]
WORK = {
    "copies of a set": again_and_again("__builtin__\nset", LONG_LIST),
    "copies of a counter": again_and_again("collections\nCounter", LONG_TEXT),
    "copies of bytes": again_and_again("_codecs\nencode", LONG_TEXT, text("latin1")),
    "a slow encoding": again_and_again("_codecs\nencode", LONG_TEXT, text("idna")),
    "a key of tuples in tuples": pickle.EMPTY_DICT + deep(60) + b"K\x01" + pickle.SETITEM,
    "a set of tuples in tuples": SET + pickle.EMPTY_LIST + deep(60) + pickle.APPEND + pickle.TUPLE1 + pickle.REDUCE,
    "keys with one hash": b"".join([pickle.EMPTY_DICT, pickle.MARK, *SAME_HASH, pickle.SETITEMS]),
}


@pytest.mark.parametrize("name", WORK)
def test_a_pickle_that_takes_much_work_is_refused_at_once(name: str) -> None:
    began = process_time()
    with pytest.raises(ValueError, match="operations" if name != "a slow encoding" else "encoding"):
        check_pickle(pickle.PROTO + b"\x02" + WORK[name] + pickle.STOP)
    assert process_time() < began + 10  # reading takes minutes to years


CALLS = {
    "bytes of any length": ("bytes", b"J\xff\xff\xff\x7f" + pickle.TUPLE1),
    "arguments in a list": ("set", pickle.EMPTY_LIST + pickle.EMPTY_LIST + pickle.APPEND),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_python_does_not_write_is_refused(name: str) -> None:
    function, arguments = CALLS[name]
    with pytest.raises(ValueError, match="it asks for"):
        check_pickle(pickle.GLOBAL + f"__builtin__\n{function}\n".encode() + arguments + pickle.REDUCE + pickle.STOP)


def test_a_hostile_pickle_does_not_change_the_next_scan() -> None:
    more = pickle.MARK + pickle.NONE * 50_000 + pickle.APPENDS
    for start in (b"K\x01", pickle.LONG1 + b"\x01\x01"):
        check_pickle(pickle.PROTO + b"\x02" + start + more + pickle.STOP)
    check_pickle(pickle.dumps([complex(i, 1) for i in range(100)], 2))


@pytest.mark.slow
def test_plain_data_of_megabytes_pass() -> None:
    lists = [{"name": f"a{i}", "numbers": [i] * 10, "pair": (i, 0.5), i: {i, "b"}} for i in range(20_000)]
    check_pickle(pickle.dumps(lists, 2))


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_weights_of_another_model_are_refused(name: str, stranger: Path) -> None:
    word, change = OTHER_MODELS[name]
    change_checkpoint(stranger, change)
    assert_refused(stranger, "last.ckpt", word)


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_a_checkpoint_of_another_kind_is_refused(name: str, stranger: Path) -> None:
    word, change = OTHER_KINDS[name]
    change_checkpoint(stranger, change)
    with pytest.raises(RunFolderError, match=rf"last.ckpt .*{word}"):
        load_checkpoint(last(stranger))


@pytest.mark.parametrize("main", [evaluate.main, export.main])
def test_a_hostile_checkpoint_is_refused_in_one_line(main: Any, stranger: Path) -> None:
    change_checkpoint(stranger, much_memory)
    assert_refused(stranger, "last.ckpt", "bytearray", main=main)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_calls_is_refused(legacy: bool, stranger: Path, planted: Planted) -> None:
    hostile = {"callbacks": Reduced(os.mkdir, str(planted.fired))}
    torch.save(hostile, last(stranger), _use_new_zipfile_serialization=not legacy)
    torch.load(last(stranger), weights_only=False)
    assert planted.fired.exists()
    planted.forget()
    assert_refused(stranger, "last.ckpt", "cannot be loaded")


def rewrite(
    path: Path, change: Callable[[str, bytes], list[tuple[str, bytes]]], compression: int = zipfile.ZIP_STORED
) -> None:
    """Replace each entry of a checkpoint's archive by those that `change` returns."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry in (new for old in entries for new in change(*old)):
            archive.writestr(*entry)


def test_a_pickle_in_another_case_is_refused(stranger: Path) -> None:
    def doubled(name: str, content: bytes) -> list[tuple[str, bytes]]:
        if not name.endswith("data.pkl"):
            return [(name, content)]
        hidden = pickle.dumps(Reduced(bytearray, 2**20), 2)  # PyTorch ignores case, and reads the first
        return [(name.replace("data.pkl", "DATA.PKL"), hidden), (name, content)]

    rewrite(last(stranger), doubled)
    with pytest.raises(RunFolderError, match="it is not an archive"):
        load_checkpoint(last(stranger))


def test_lost_bytes_in_a_checkpoint_are_found(stranger: Path) -> None:
    path = last(stranger)
    with zipfile.ZipFile(path) as archive:
        tensors = [entry for entry in archive.infolist() if "/data/" in entry.filename]
        largest = max(tensors, key=lambda entry: entry.file_size)
    content = bytearray(path.read_bytes())
    middle = largest.header_offset + 200 + largest.file_size // 2
    content[middle : middle + 16] = bytes(16)
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # PyTorch does not look
    with pytest.raises(RunFolderError, match=r"last.ckpt cannot be loaded .* is damaged"):
        load_checkpoint(path)


def test_an_archive_behind_other_bytes_is_refused(stranger: Path) -> None:
    # Python's reader would look for the table of contents elsewhere than PyTorch's
    path = last(stranger)
    path.write_bytes(b"x" * 64 + path.read_bytes())
    assert zipfile.ZipFile(path).testzip() is None
    assert_refused(stranger, "last.ckpt", "not an archive of torch.save")


def test_an_archive_with_two_tables_of_contents_is_refused(stranger: Path) -> None:
    with zipfile.ZipFile(last(stranger), "a") as archive:
        name = next(entry for entry in archive.namelist() if entry.endswith("data.pkl"))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(name, pickle.dumps({"counts": 1}))
    with pytest.raises(RunFolderError, match="cannot be loaded"):
        load_checkpoint(last(stranger))


# memory: each of these takes gigabytes where nobody looks first


def zip_bomb(folder: Path) -> None:
    change_checkpoint(folder, lambda c: c | {"ballast": torch.zeros(2**26)})
    rewrite(last(folder), lambda *entry: [entry], zipfile.ZIP_DEFLATED)


def claimed_storage(folder: Path) -> None:
    change_checkpoint(folder, lambda c: {"counts": c["counts"], "state_dict": {"w": torch.ones(77)}})
    rewrite(last(folder), lambda name, content: [(name, content.replace(b"KM", b"J" + (2**30).to_bytes(4, "little")))])


def expanded(folder: Path) -> None:
    def change(checkpoint: Config) -> Config:
        for name, tensor in checkpoint["state_dict"].items():
            if name.endswith("layers.0.weight") and "encoder" in name:
                checkpoint["state_dict"][name] = torch.ones(1).expand(2**30, *tensor.shape[1:])
        return checkpoint

    change_checkpoint(folder, change)
    plant(folder, "network.hidden_features", 2**30)


MEMORY = {
    "zip_bomb": zip_bomb,
    "bytearray": lambda folder: change_checkpoint(folder, much_memory),
    "claimed_storage": claimed_storage,
    "expanded_weights": expanded,
    "many_layers": lambda folder: plant(folder, "network.hidden_features", [4000] * 4500),
}
MEASURE = """
import sys
from pathlib import Path
from tests.helpers.commands import run_main
from vaelab import evaluate

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024

run_main(evaluate.main, Path("."), "run_dir=stranger", "inference_gap=false")
before = peak()
for name in sys.argv[1:]:
    outcome = run_main(evaluate.main, Path("."), f"run_dir={name}", code=1)
    print(name, peak() - before, outcome.err.count(chr(10)), sep="|")
"""


@pytest.mark.slow
def test_no_folder_takes_more_memory_than_it_has_bytes(stranger: Path) -> None:
    for name, tamper in MEMORY.items():
        shutil.copytree(stranger, stranger.with_name(name))
        tamper(stranger.with_name(name))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    command = [sys.executable, "-c", MEASURE, *MEMORY]
    done = subprocess.run(command, cwd=stranger.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {name: (int(megabytes), int(lines)) for name, megabytes, lines in map(split, done.stdout.splitlines())}
    assert list(found) == list(MEMORY)
    assert {name: value for name, value in found.items() if value[0] > 100 or value[1] != 1} == {}


def split(line: str) -> list[str]:
    return line.split("|")


# what is written


@pytest.mark.parametrize("name", ["evaluation.json", ".evaluation.json.partial"])
def test_a_planted_link_is_not_followed(name: str, stranger: Path) -> None:
    victim = stranger.parent / "victim"
    victim.write_text("precious")
    (stranger / name).symlink_to(victim)
    run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}", "inference_gap=false")
    assert victim.read_text() == "precious"
    assert not (stranger / "evaluation.json").is_symlink()
    assert "test/elbo" in evaluation(stranger)


def test_an_export_does_not_leave_the_run_folder(stranger: Path) -> None:
    (stranger / "checkpoints").rename(stranger.parent / "elsewhere")
    (stranger / "checkpoints").symlink_to(stranger.parent / "elsewhere")
    assert_refused(stranger, "leads out of", main=export.main)


# the data, and resuming


@pytest.mark.slow
def test_other_data_than_the_record_tells_of_are_refused(stranger: Path) -> None:
    plant(stranger, "data.seed", 1)
    assert_refused(stranger, "trained on data that differ from data=digits now")
    (stranger / "record.json").write_text("{}")
    assert_refused(stranger, "trained on data that differ from")
    (stranger / "record.json").unlink()
    outcome = run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}", "inference_gap=false")
    assert "no record.json" in outcome.err


def without_loops(checkpoint: Config) -> Config:
    return {name: value for name, value in checkpoint.items() if name != "loops"}


def with_one_parameter(checkpoint: Config) -> Config:
    checkpoint["optimizer_states"][0]["param_groups"][0]["params"] = [0]
    return checkpoint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (OTHER_MODELS["another shape"][1], "cannot be loaded into the model"),
        (without_loops, "loops"),
        (with_one_parameter, "parameters"),
    ],
)
def test_training_does_not_resume_from_another_kind_of_checkpoint(
    change: Callable[[Config], Config], word: str, copied: Path, tmp_path: Path, run_fast: Run
) -> None:
    change_checkpoint(copied, change)
    (copied / "checkpoints" / "previous.ckpt").unlink()  # which is what a damaged one would be replaced by
    before = contents(tmp_path)
    assert_one_line(run_fast("trainer.max_epochs=3", code=FAILURE, figures=True), "last.ckpt", word)
    assert contents(tmp_path) == before
