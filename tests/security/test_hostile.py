"""Run folders from a stranger: each exploit works on code that is not careful, and is refused by name here."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.helpers.commands import Outcome, Run, results, run_main
from tests.runs.test_refusals import FAILURE, USAGE, assert_one_line
from vaelab import evaluate, export
from vaelab.errors import RunFolderError
from vaelab.files import write_atomically
from vaelab.runs.configuration import plain
from vaelab.runs.folder.contents import load_checkpoint, read_config

pytestmark = pytest.mark.usefixtures("as_users_have_it")

HUGE = 2**40
Config = dict[str, Any]


@pytest.fixture
def stranger(finished: Outcome, tmp_path: Path) -> Path:
    """A run folder that can be tampered with, in the working folder of the commands."""
    folder = tmp_path / "stranger"
    shutil.copytree(finished.path, folder, ignore=shutil.ignore_patterns("wandb", "figures"))
    return folder


def config_of(folder: Path) -> Config:
    return yaml.safe_load((folder / "config.yaml").read_text())


def plant(folder: Path, key: str, value: Any) -> None:
    """Sets a dotted key of a folder's configuration."""
    config = node = config_of(folder)
    *parents, last = [key] if "$" in key else key.split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def contents(folder: Path) -> dict[Path, bytes | None]:
    found = (path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts)
    return {path: path.read_bytes() if path.is_file() else None for path in found}


def assert_refused(folder: Path, *words: str, main: Any = evaluate.main, more: tuple[str, ...] = ()) -> None:
    """By one line and exit code 1, and nothing in the working folder has changed."""
    before = contents(folder.parent)
    assert_one_line(run_main(main, folder.parent, f"run_dir={folder.name}", *more, code=FAILURE), *words)
    assert contents(folder.parent) == before


# classes that are none


def call(target: str, *arguments: Any, **named: Any) -> Config:
    return {"_target_": target, "_args_": list(arguments)} | named


class Planted:
    """Files beside the run folder, and nodes of a configuration that would make `fired` appear there."""

    def __init__(self, folder: Path) -> None:
        self.fired = folder / "fired"
        (folder / "loot").write_text("secret")
        (folder / "evil.py").write_text(f"open({str(self.fired)!r}, 'w')\nclass Head: ...\n")
        (folder / "hubconf.py").write_text(f"open({str(self.fired)!r}, 'w')\ndef model(): ...\n")
        (folder / "pickled").write_bytes(pickle.dumps(Reduced(open, str(self.fired), "w")))
        paths = (str(folder / name) for name in ("loot", "evil.py", "pickled", "fired"))
        loot, evil, pickled, fired = paths
        path = call("pathlib.Path", fired)
        self.nodes = {
            "shutil.copy": call("shutil.copy", loot, fired),
            "a module's import": call("torch.serialization.shutil.copy", loot, fired),
            "our module's import": call("vaelab.runs.folder.contents.os.symlink", loot, fired),
            "torch.load": call("torch.load", pickled, weights_only=False),
            "torch.load of a model's module": call("vaelab.heads.scales.torch.load", pickled, weights_only=False),
            "torch.hub.load": call("torch.hub.load", str(folder), "model", source="local"),
            "torch.save": call("torch.save", 1, fired),
            "our own writer": call("vaelab.files.write_atomically", path, "x"),
            "our own writer, later": call("vaelab.files.write_atomically", path, "x", _partial_=True),
            "a file opened": call("io.open", fired, "w"),
            "a log file": call("logging.FileHandler", fired),
            "a script": call("runpy.run_path", evil),
            "a module here": {"_target_": "evil.Head"},
            "a module imported": call("importlib.import_module", "evil"),
            "a folder": call("os.makedirs", fired),
            "a link": call("os.symlink", loot, fired),
            "numpy.save": call("numpy.save", fired + ".npy", 1),
            "a data file": call("vaelab.data.download.fetch", path, None, []),
            "a private name": call("vaelab.heads.scales._log_variance_of", 1.0),
            "a shell": call("os.system", f"touch {fired}"),
            "a shell of ours": call("vaelab.runs.folder.contents.os.system", f"touch {fired}"),
            "eval": call("builtins.eval", f"open({fired!r}, 'w')"),
        }
        # the list of forbidden names of Hydra has these, or they do nothing by themselves
        self.silent = (
            *("our own writer, later", "a data file", "a private name", "a shell", "a shell of ours", "eval"),
            *("a script", "a module imported"),
        )

    def has_fired(self) -> bool:
        return os.path.lexists(self.fired) or self.fired.with_suffix(".npy").exists()

    def forget(self) -> None:
        for path in (self.fired, self.fired.with_suffix(".npy")):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        (self.fired.parent / "loot").write_text("secret")
        sys.modules.pop("evil", None)
        sys.modules.pop("hubconf", None)


class Reduced:
    """Whoever unpickles one calls the function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planted:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return Planted(tmp_path)


NODES = (
    *("shutil.copy", "a module's import", "our module's import", "torch.load", "torch.load of a model's module"),
    *("torch.hub.load", "torch.save", "our own writer", "our own writer, later", "a file opened", "a log file"),
    *("a script", "a module here", "a module imported", "a folder", "a link", "numpy.save", "a data file"),
    *("a private name", "a shell", "a shell of ours", "eval"),
)
SLOW = (
    *("our own writer, later", "torch.save", "a file opened", "a log file", "a folder", "a link", "numpy.save"),
    *("a private name", "a shell of ours"),
)
PLACES = ("data", "decoder", "encoder.network", "decoder.head.scale", "decoder.network.activation", "prior", "model")


def fires(node: Config, planted: Planted) -> bool:
    """Whether a configuration that is instantiated as it stands runs what was planted."""
    try:
        instantiate(OmegaConf.create({"node": node}))
    except Exception as error:
        print(error)
    fired = planted.has_fired()
    planted.forget()
    return fired


@pytest.mark.parametrize(
    ("number", "name"),
    [pytest.param(*pair, marks=[pytest.mark.slow] if pair[1] in SLOW else []) for pair in enumerate(NODES)],
)
def test_a_class_that_is_no_model_is_neither_made_nor_imported(
    number: int, name: str, stranger: Path, planted: Planted
) -> None:
    node = planted.nodes[name]
    assert fires(node, planted) != (name in planted.silent)
    node = {key: value for key, value in node.items() if key != "_args_"} | {"x": 1}
    for place in ("objective", PLACES[number % len(PLACES)]):
        plant(stranger, place, node)
        assert_refused(stranger, "config.yaml", place, node["_target_"])
        assert "evil" not in sys.modules
        assert not planted.has_fired()


@pytest.mark.parametrize(
    ("key", "wrap"),
    [
        ("decoder.network.hidden_features", lambda node: [8, node]),
        ("encoder.head.scale", lambda node: {"a": [{"b": [[node]]}]}),
        ("latent_dim", lambda node: node),
        ("seed", lambda node: [node]),
        ("estimator.num_samples", lambda node: node),
        ("data.seed", lambda node: {"c": node}),
    ],
)
def test_no_nesting_hides_a_class(key: str, wrap: Callable[[Config], Any], stranger: Path, planted: Planted) -> None:
    node = planted.nodes["a module here"]
    assert fires({"x": wrap(node)}, planted)
    plant(stranger, key, wrap(node))
    assert_refused(stranger, key, "evil.Head", "trust=[evil]")
    assert not planted.has_fired()


@pytest.mark.parametrize(
    "key",
    ["optimizer", "lr_schedule", "gradient_clip", "weight_prior", "initialization", "logger", "trainer", "callbacks"],
)
def test_what_evaluation_does_not_need_is_never_made(
    key: str, stranger: Path, planted: Planted, finished: Outcome
) -> None:
    node = planted.nodes["a module's import"]
    assert fires(node, planted)
    plant(stranger, key, node)
    run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}")
    assert not planted.has_fired()
    found = json.loads((stranger / "evaluation.json").read_text())
    assert found["test/elbo"] == results(finished.path)["test/elbo"]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("decoder.head._args_", ["x"], ("decoder.head._args_", "_target_, _partial_")),
        ("decoder._recursive_", False, ("decoder._recursive_",)),
        ("decoder._meta_", 1, ("decoder._meta_",)),
        ("decoder._target_", ["os.system"], ("decoder._target_", "os.system")),
        ("decoder._target_", "", ("decoder._target_",)),
        ("decoder._target_", "..heads", ("decoder._target_",)),
        ("decoder._target_", "vaelab.heads.base.Nothing", ("vaelab.heads.base.Nothing", "not here")),
        ("data._target_", "vaelab.heads.Bernoulli", ("data._target_", "no data set")),
        ("data._target_", "vaelab.data.datasets.frey_face.read_frames", ("read_frames", "no data set")),
        ("data._target_", "vaelab.data.datasets.mnist.ImageData", ("ImageData", "no data set")),
        ("data.data_dir", "/etc", ("data.data_dir", "type data_dir=")),
        ("data.shuffle_seed", 3, ("data.shuffle_seed",)),
        ("data", None, ("data", "_target_")),
        ("decoder", 5, ("decoder", "_target_")),
        ("prior", {"a": 1}, ("prior", "_target_")),
        ("decoder._target_", "vaelab.networks.MLP", ("config.yaml", "MLP")),
        ("model._target_", "vaelab.heads.Bernoulli", ("config.yaml", "Bernoulli")),
        ("decoder.network.activation", "\x1b]0;title\x07", ("decoder.network.activation", "\\x1b")),
        ("objective.num_samples", HUGE, ("objective.num_samples", "at most 1,000")),
        ("estimator.num_samples", HUGE, ("estimator.num_samples", "at most")),
        ("estimator.max_batch_elements", HUGE, ("estimator.max_batch_elements", "at most")),
        ("estimator.extra", [1] * 20_000, ("more than 20,000 keys and values",)),
    ],
)
def test_a_configuration_of_another_kind_is_refused(
    key: str, value: Any, words: tuple[str, ...], stranger: Path
) -> None:
    plant(stranger, key, value)
    assert_refused(stranger, *words)


@pytest.mark.parametrize("name", ["config", "precision"])
def test_the_trainer_takes_a_known_precision_alone(name: str, stranger: Path) -> None:
    plant(stranger, "trainer.precision", {"_target_": "os.getcwd"} if name == "config" else "16-true")
    outcome = run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}", code=USAGE)
    assert_one_line(outcome, "trainer.precision", "bf16-mixed")


# trust


def test_a_trusted_package_is_let_through_and_what_it_imports_is_not(
    stranger: Path, planted: Planted, finished: Outcome
) -> None:
    package = stranger.parent / "mypkg"
    package.mkdir()
    (package / "__init__.py").write_text("import os\nfrom vaelab.heads import Bernoulli\nclass Mine(Bernoulli): ...\n")
    plant(stranger, "decoder.head._target_", "mypkg.Mine")
    assert_refused(stranger, "decoder.head._target_", "mypkg.Mine", "trust=[mypkg]")
    run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}", "trust=[mypkg]")
    found = json.loads((stranger / "evaluation.json").read_text())
    assert found["test/elbo"] == results(finished.path)["test/elbo"]
    for target in ("mypkg.os.system", "mypkg.os.rename", "mypkg.Bernoulli", "mypkg.__builtins__", "mypkgs.Mine"):
        plant(stranger, "decoder.head._target_", target)
        assert_refused(stranger, "decoder.head._target_", target, more=("trust=[mypkg]",))


@pytest.mark.parametrize(
    "value", ["[1]", "[my-pkg]", "{a:1}", "null", "['']", "[os]", "[torch]", "[vaelab.runs.folder.contents]"]
)
def test_what_cannot_be_trusted(value: str, stranger: Path) -> None:
    outcome = run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}", f"trust={value}", code=USAGE)
    assert_one_line(outcome, "trust")


# interpolations


@pytest.mark.parametrize(
    ("key", "value", "fired"),
    [
        ("name", "${oc.env:SECRET}", "hunter2"),
        ("decoder.network.activation", "${oc.env:SECRET}", "hunter2"),
        ("latent_dim", "${oc.decode:'2'}", 2),
        ("logger.project", "${data._target_}", "vaelab.data.Digits"),
        ("${oc.env:SECRET}", 1, None),
        ("callbacks.a", ["${seed}"], None),
        ("seed", "???", None),
        ("trainer.max_epochs", "???", None),
    ],
)
def test_an_interpolation_is_refused_and_not_resolved(
    key: str, value: Any, fired: Any, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    plant(stranger, key, value)
    if fired is not None:
        naive = OmegaConf.create(config_of(stranger))
        assert OmegaConf.select(naive, key) == fired
    words = () if key == "trainer.max_epochs" else (key,)
    assert_refused(stranger, "config.yaml", *words)


# YAML and JSON


def python_tag(folder: Path) -> str:
    return f"seed: !!python/object/apply:os.mkdir [{str(folder / 'fired')!r}]\n"


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
YAML = {
    "an object": (python_tag, "tag"),
    "a tag": ("seed: !!str 0\n", "tag"),
    "a tag of their own": ("seed: !evil 0\n", "tag"),
    "billion laughs": (LAUGHS, "anchor or alias a0"),
    "an anchor": ("a: &x 1\n", "anchor or alias x"),
    "a merge": ("<<: {seed: 1}\nseed: 2\n", "the key seed twice"),
    "flows in flows": ("a: " + "[" * 5000 + "]" * 5000, "more than 32 levels"),
    "maps in maps": ("".join(f"{' ' * i}a:\n" for i in range(1000)), "more than 32 levels"),
    "a large file": ("a: " + "x" * 2**21, "more than 1,048,576 bytes"),
    "many values": ("a: [" + "1," * 500_000 + "]", "more than 20,000 keys and values"),
    "a key twice": ("seed: 1\nseed: 2\n", "the key seed twice"),
    "a key that is a number": ("1: 2\n", "the key 1"),
    "a key that is a list": ("? [a]\n: 1\n", "YAML"),
    "base 60": ("a: 1" + ":1" * 100_000, "64 bits"),
    "a number of a million digits": ("a: 0x" + "f" * 1_000_000, "64 bits"),
    "a decimal number of many digits": ("a: " + "9" * 5000, "YAML"),
    "a date": ("a: 2020-13-45\n", "YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "YAML"),
    "escapes": ('"\\e[2J": 1\n"\\e[2J": 2\n', "\\x1b"),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_is_more_than_plain_is_refused(name: str, stranger: Path) -> None:
    text, word = YAML[name]
    text = text(stranger.parent) if callable(text) else text
    (stranger / "config.yaml").write_text("format_version: 1\n" + text)
    assert_refused(stranger, "config.yaml", word)
    assert not (stranger.parent / "fired").exists()


def test_what_careless_readers_of_yaml_make_of_it(stranger: Path) -> None:
    yaml.unsafe_load(python_tag(stranger.parent))
    assert (stranger.parent / "fired").is_dir()
    assert len(str(yaml.safe_load("".join(LAUGHS.splitlines(keepends=True)[:16])))) > 300_000  # 2^15 of them
    with pytest.raises(RecursionError):
        yaml.safe_load(YAML["flows in flows"][0])
    assert yaml.safe_load("seed: 1\nseed: 2\n") == {"seed": 2}
    with pytest.raises(RecursionError):
        json.loads("[" * 100_000)


def test_our_own_configurations_pass(composed: Callable[..., Any], tmp_path: Path) -> None:
    for line in ("hidden_features=[8,8] decoder=gaussian_fixed", "experiment=aevb_frey_face lr_schedule=plateau"):
        config = plain(composed(*line.split())) | {"format_version": 1}
        write_atomically(tmp_path / "config.yaml", yaml.safe_dump(config))
        assert read_config(tmp_path) == {key: value for key, value in config.items() if key != "format_version"}


@pytest.mark.parametrize("file", ["config.yaml", "record.json", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("kind", ["pipe", "device", "link", "folder"])
def test_what_is_no_file_is_refused_at_once(kind: str, file: str, stranger: Path) -> None:
    path = stranger / file
    path.rename(stranger / "moved")
    make = {
        "pipe": os.mkfifo,
        "device": lambda path: os.symlink("/dev/zero", path),
        "link": lambda path: os.symlink(stranger / "moved", path),
        "folder": os.mkdir,
    }
    make[kind](path)
    outcome = run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}", code=FAILURE)
    assert_one_line(outcome, file, "expected a file")


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"data": ' + "[" * 100_000, "[]", "x", '{"data": ' + "9" * 9000 + "}", "{}" + " " * 2**22],
)
def test_a_record_that_is_none_is_refused(content: str, stranger: Path) -> None:
    (stranger / "record.json").write_text(content)
    assert_refused(stranger, "record.json")


@pytest.mark.parametrize(
    ("file", "key", "value", "words"),
    [
        ("status.json", "run_id", "../../../etc", ("status.json", "run_id", "eight hexadecimal digits")),
        ("status.json", "run_id", ["12345678"], ("status.json", "run_id")),
        ("status.json", "seconds", "1e3", ("status.json", "seconds")),
        ("status.json", "seconds", float("nan"), ("status.json", "seconds")),
        ("status.json", "seconds", -1, ("status.json", "seconds")),
        ("metrics.json", "val/elbo", "x", ("metrics.json", "val/elbo")),
        ("metrics.json", "val/elbo", None, ("metrics.json", "val/elbo")),
        ("config.yaml", "trainer.max_epochs", "many", ("config.yaml", "trainer.max_epochs")),
        ("config.yaml", "trainer.max_steps", [1], ("config.yaml", "trainer.max_steps")),
    ],
)
def test_a_run_is_not_completed_from_values_that_we_would_not_write(
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


def checkpoint_of(folder: Path) -> Config:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def changed(name: str, checkpoint: Config) -> Any:
    """A checkpoint that is not what it should be."""
    state = checkpoint["state_dict"]
    first, tensor = next(iter(state.items()))
    changes: dict[str, Callable[[], Any]] = {
        "another name": lambda: checkpoint | {"state_dict": state | {"vae.extra": torch.ones(2)}},
        "a name less": lambda: checkpoint | {"state_dict": {k: v for k, v in state.items() if k != first}},
        "another shape": lambda: checkpoint | {"state_dict": state | {first: tensor[:1].clone()}},
        "another type": lambda: checkpoint | {"state_dict": state | {first: tensor.double()}},
        "complex": lambda: checkpoint | {"state_dict": state | {first: tensor.to(torch.complex64)}},
        "sparse": lambda: checkpoint | {"state_dict": state | {first: tensor.to_sparse()}},
        "no memory": lambda: checkpoint | {"state_dict": state | {first: tensor.to("meta")}},
        "a number": lambda: checkpoint | {"state_dict": state | {first: 1.0}},
        "another key": lambda: checkpoint | {"state_dict": state | {3: tensor}},
        "expanded": lambda: checkpoint | {"state_dict": state | {first: torch.ones(1).expand(HUGE)}},
        "many views of one": lambda: checkpoint | {"state_dict": views()},
        "counts of words": lambda: checkpoint | {"counts": {"steps": "30", "samples_seen": 2876}},
        "counts of truth": lambda: checkpoint | {"counts": {"steps": True, "samples_seen": 2876}},
        "negative counts": lambda: checkpoint | {"counts": {"steps": -1, "samples_seen": 2876}},
        "counts too few": lambda: checkpoint | {"counts": {"steps": 30}},
        "no counts": lambda: {k: v for k, v in checkpoint.items() if k != "counts"},
        "no weights": lambda: {k: v for k, v in checkpoint.items() if k != "state_dict"},
        "a list": lambda: [checkpoint],
        "a tensor": lambda: tensor,
        "a list of weights": lambda: checkpoint | {"state_dict": list(state)},
        "an object": lambda: checkpoint | {"hyper_parameters": Reduced(io.StringIO)},
        "a path": lambda: checkpoint | {"hyper_parameters": {"path": Path("x")}},
        "much memory": lambda: checkpoint | {"hyper_parameters": Reduced(bytearray, 2**30)},
        "a set": lambda: checkpoint | {"hyper_parameters": Reduced(set, [1])},
    }
    return changes[name]()


def views() -> dict[str, torch.Tensor]:
    one = torch.ones(10_000)
    return {f"view{i}": one[:] for i in range(1000)}


CHANGES = {
    "another name": "vae.extra",
    "a name less": "absent",
    "another shape": "[1, 64]",
    "another type": "float64",
    "complex": "complex64",
    "sparse": "expected",
    "no memory": "expected",
    "a number": "names and tensors",
    "another key": "names and tensors",
    "expanded": "tensors of 4,398",
    "many views of one": "tensors of 40,0",
    "counts of words": "counts",
    "counts of truth": "counts",
    "negative counts": "counts",
    "counts too few": "counts",
    "no counts": "expected counts and a state_dict",
    "no weights": "expected counts and a state_dict",
    "a list": "found list",
    "a tensor": "found Tensor",
    "a list of weights": "found list",
    "an object": "_io",
    "a path": "pathlib",
    "much memory": "bytearray",
    "a set": "set",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_checkpoint_of_another_kind_is_refused(name: str, stranger: Path) -> None:
    path = stranger / "checkpoints" / "last.ckpt"
    torch.save(changed(name, checkpoint_of(stranger)), path)
    assert_refused(stranger, "last.ckpt", CHANGES[name])
    if name not in FITS_NO_MODEL:
        assert_refused(stranger, "last.ckpt", CHANGES[name], main=export.main)


FITS_NO_MODEL = ("another name", "a name less", "another shape", "another type", "complex")  # export knows no model


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_calls_is_refused(legacy: bool, stranger: Path, planted: Planted) -> None:
    path = stranger / "checkpoints" / "last.ckpt"
    hostile = checkpoint_of(stranger) | {"callbacks": Reduced(os.mkdir, str(planted.fired))}
    torch.save(hostile, path, _use_new_zipfile_serialization=not legacy)
    torch.load(path, weights_only=False)
    assert planted.has_fired()
    planted.forget()
    assert_refused(stranger, "last.ckpt", "cannot be loaded")


def test_other_formats_are_refused_even_without_an_exploit_in_them(stranger: Path) -> None:
    path = stranger / "checkpoints" / "last.ckpt"
    whole = checkpoint_of(stranger)
    torch.save(whole, path, _use_new_zipfile_serialization=False)
    assert torch.load(path, weights_only=True).keys() == whole.keys()
    assert_refused(stranger, "last.ckpt", "cannot be loaded")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    assert_refused(stranger, "last.ckpt", "cannot be loaded")


# memory: each of these takes gigabytes where nobody looks first


def rewrite(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Changes the entries of a checkpoint's archive."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, change(name, content))


def zip_bomb(folder: Path) -> None:
    path = folder / "checkpoints" / "last.ckpt"
    torch.save(checkpoint_of(folder) | {"ballast": torch.zeros(2**26)}, path)
    rewrite(path, lambda name, content: content, zipfile.ZIP_DEFLATED)


def much_memory(folder: Path) -> None:
    torch.save(changed("much memory", checkpoint_of(folder)), folder / "checkpoints" / "last.ckpt")


def claimed_storage(folder: Path) -> None:
    path = folder / "checkpoints" / "last.ckpt"
    torch.save({"counts": {"steps": 1, "samples_seen": 1}, "state_dict": {"w": torch.ones(77)}}, path)
    rewrite(path, lambda name, content: content.replace(b"KM", b"J" + (2**30).to_bytes(4, "little")))


def expanded(folder: Path) -> None:
    checkpoint = checkpoint_of(folder)
    for name, tensor in checkpoint["state_dict"].items():
        if name.endswith("layers.0.weight") and "encoder" in name:
            checkpoint["state_dict"][name] = torch.ones(1).expand(2**30, *tensor.shape[1:])
    torch.save(checkpoint, folder / "checkpoints" / "last.ckpt")
    plant(folder, "encoder.network.hidden_features", 2**30)


MEMORY = {
    "zip bomb": zip_bomb,
    "bytearray": much_memory,
    "claimed storage": claimed_storage,
    "expanded weights": expanded,
    "latent_dim": lambda folder: plant(folder, "latent_dim", HUGE),
    "latent_dim below": lambda folder: plant(folder, "latent_dim", 2**30),
    "hidden_features": lambda folder: plant(folder, "decoder.network.hidden_features", HUGE),
    "many layers": lambda folder: plant(folder, "decoder.network.hidden_features", [4000] * 9000),
    "hidden_features beyond all": lambda folder: plant(folder, "decoder.network.hidden_features", 2**62),
    "objective.num_samples": lambda folder: plant(folder, "objective.num_samples", 10**7),
}
PEAK = """
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024
"""
MEASURE = """
import sys
from pathlib import Path
from tests.helpers.commands import run_main
from vaelab import evaluate
run_main(evaluate.main, Path("."), "run_dir=stranger")
before = peak()
for name in sys.argv[1:]:
    outcome = run_main(evaluate.main, Path("."), f"run_dir={name}", code=1)
    print(name, peak() - before, outcome.err.count(chr(10)), sep="|")
"""


def child(code: str, *arguments: str, cwd: Path) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_no_folder_takes_more_memory_than_it_has_bytes(stranger: Path) -> None:
    for name, tamper in MEMORY.items():
        shutil.copytree(stranger, stranger.with_name(name.replace(" ", "_")))
        tamper(stranger.with_name(name.replace(" ", "_")))
    names = [name.replace(" ", "_") for name in MEMORY]
    lines = child(PEAK + MEASURE, *names, cwd=stranger.parent).splitlines()
    grown = {name: (int(megabytes), int(count)) for name, megabytes, count in (line.split("|") for line in lines)}
    assert list(grown) == names
    assert {name: value for name, value in grown.items() if value[0] > 100 or value[1] != 1} == {}


@pytest.mark.parametrize("name", ["bytearray", pytest.param("zip bomb", marks=pytest.mark.slow)])
def test_what_loading_plain_data_alone_would_take(name: str, stranger: Path) -> None:
    MEMORY[name](stranger)
    code = "import torch; before = peak(); torch.load('stranger/checkpoints/last.ckpt', weights_only=True)"
    assert int(child(f"{PEAK}{code}; print(peak() - before)", cwd=stranger.parent)) > 200  # megabytes, of a small file
    assert (stranger / "checkpoints" / "last.ckpt").stat().st_size < 2**20


def rezipped(path: Path, change: Callable[[str, bytes], list[tuple[str, bytes]]]) -> None:
    """An archive of PyTorch's, written anew with other entries."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            for other, written in change(name, content):
                archive.writestr(other, written)


def in_another_case(name: str, content: bytes) -> list[tuple[str, bytes]]:
    """The pickle twice: PyTorch, which does not tell cases apart, reads the first, which calls something."""
    if not name.endswith("data.pkl"):
        return [(name, content)]
    return [(name.replace("data.pkl", "DATA.PKL"), pickle.dumps(Reduced(bytearray, 2**20), 2)), (name, content)]


def nested(depth: int) -> Any:
    value: Any = ()
    for _ in range(depth):
        value = (value, value)
    return value


HIDDEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pickle in another case": (lambda path: rezipped(path, in_another_case), "archive of torch.save"),
    "a pickle of megabytes": (lambda path: torch.save({"x": [{} for _ in range(3_000_000)]}, path), "4,194,304 bytes"),
    "tuples in tuples": (lambda path: torch.save({"counts": nested(40), "state_dict": {}}, path), "counts"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_hides_in_a_checkpoint_is_refused_at_once(name: str, stranger: Path) -> None:
    tamper, word = HIDDEN[name]
    tamper(stranger / "checkpoints" / "last.ckpt")
    with pytest.raises(RunFolderError, match=word):
        load_checkpoint(stranger / "checkpoints" / "last.ckpt")


def test_bytes_that_a_disk_lost_are_found(stranger: Path) -> None:
    path = stranger / "checkpoints" / "last.ckpt"
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


def test_a_record_of_nothing_is_no_record_of_these_data(stranger: Path) -> None:
    (stranger / "record.json").write_text("{}")
    assert_refused(stranger, "trained on other data")


# what is written


@pytest.mark.parametrize("name", ["evaluation.json", ".evaluation.json.partial"])
def test_a_planted_link_is_not_followed(name: str, stranger: Path) -> None:
    victim = stranger.parent / "victim"
    victim.write_text("precious")
    (stranger / name).symlink_to(victim)
    run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}")
    assert victim.read_text() == "precious"
    assert not (stranger / "evaluation.json").is_symlink()
    assert "test/elbo" in json.loads((stranger / "evaluation.json").read_text())


def test_a_planted_folder_is_in_the_way_and_says_so(stranger: Path) -> None:
    (stranger / "evaluation.json" / "x").mkdir(parents=True)
    outcome = run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}", code=FAILURE)
    assert len(outcome.err.splitlines()) == 1
    assert "evaluation.json" in outcome.err


def test_an_export_does_not_leave_the_run_folder(stranger: Path) -> None:
    (stranger / "checkpoints").rename(stranger.parent / "elsewhere")
    (stranger / "checkpoints").symlink_to(stranger.parent / "elsewhere")
    assert_refused(stranger, "leads out of", main=export.main)


# the data, and going on


def test_an_evaluation_is_of_the_data_that_the_run_was_trained_on(stranger: Path) -> None:
    plant(stranger, "data.seed", 1)
    assert_refused(stranger, "trained on other data than data=digits serves now")


def test_a_folder_without_a_record_is_evaluated_with_a_warning(stranger: Path) -> None:
    (stranger / "record.json").unlink()
    outcome = run_main(evaluate.main, stranger.parent, f"run_dir={stranger.name}")
    assert "no record.json" in outcome.err


GOING_ON = {
    "another shape": "cannot be loaded into the model",
    "no counts": "expected counts",
    "no loops": "loops",
    "no optimizer": "optimizer",
    "another optimizer": "parameters",
}


@pytest.mark.parametrize("name", GOING_ON)
def test_training_does_not_go_on_from_a_checkpoint_of_another_kind(
    name: str, copied: Path, tmp_path: Path, run_fast: Run
) -> None:
    checkpoint = checkpoint_of(copied)
    if name == "no loops":
        del checkpoint["loops"]
    elif name == "no optimizer":
        del checkpoint["optimizer_states"]
    elif name == "another optimizer":
        checkpoint["optimizer_states"][0]["param_groups"][0]["params"] = [0]
    else:
        checkpoint = changed(name, checkpoint)
    torch.save(checkpoint, copied / "checkpoints" / "last.ckpt")
    (copied / "checkpoints" / "previous.ckpt").unlink()  # which is what a damaged one would be replaced by
    before = contents(tmp_path)
    assert_one_line(run_fast("trainer.max_epochs=3", code=FAILURE, figures=True), "last.ckpt", GOING_ON[name])
    assert contents(tmp_path) == before


def test_an_archive_behind_other_bytes_is_refused(stranger: Path) -> None:
    # Python's reader would look for the table of contents elsewhere than PyTorch's
    path = stranger / "checkpoints" / "last.ckpt"
    path.write_bytes(b"x" * 64 + path.read_bytes())
    assert zipfile.ZipFile(path).testzip() is None
    assert_refused(stranger, "last.ckpt", "not an archive of torch.save")


def test_an_archive_with_two_tables_of_contents_is_refused(stranger: Path) -> None:
    path = stranger / "checkpoints" / "last.ckpt"
    with zipfile.ZipFile(path, "a") as archive:
        name = next(entry for entry in archive.namelist() if entry.endswith("data.pkl"))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(name, pickle.dumps({"counts": 1}))
    with pytest.raises(RunFolderError, match="cannot be loaded"):
        load_checkpoint(path)
