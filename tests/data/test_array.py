"""A user's own array is read value by value, split by fractions, or refused with what to do."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.commands import Run, results
from vaelab.data import Array
from vaelab.data.splits import sizes_of
from vaelab.errors import DataError

pytestmark = pytest.mark.usefixtures("as_users_have_it")
PICTURES = np.random.default_rng(0).integers(0, 256, (40, 6, 5))
PICTURES[0, 0, 0] = 255


def made(folder: Path, array: Any = PICTURES, **options: Any) -> Array:
    np.save(folder / "mine.npy", array)
    return Array(file="mine.npy", data_dir=folder, **options)


def served(data: Array) -> np.ndarray:
    return np.concatenate([split.images for split in data.split.values()])


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i4", "u8", "i8", "f2", "f4", ">f8", "longdouble"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_whole_numbers_of_any_real_type_are_served_as_bytes(dtype: str, order: Any, tmp_path: Path) -> None:
    data = made(tmp_path, np.asarray(PICTURES.astype(dtype), order=order))
    assert data.event_shape == (1, 6, 5)
    assert served(data).dtype == np.uint8
    found = {image.tobytes() for image in served(data)}
    assert found == {image.astype(np.uint8).tobytes() for image in PICTURES}
    assert [len(split) for split in data.split.values()] == [32, 4, 4]


def test_an_array_with_channels_keeps_them(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 4, (30, 3, 6, 5))
    data = made(tmp_path, colours, num_levels=4)
    assert data.event_shape == (3, 6, 5)
    data.serve("levels")
    assert data.max_pixel == 3
    assert data.draw("train", torch.arange(24)).max() == 3


def test_an_array_is_checked_to_its_end(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("vaelab.data.datasets.array._PIECE", 100)  # three pictures
    assert len(served(made(tmp_path))) == 40
    array = PICTURES.astype(float)
    array[38, 4, 3] = 0.5
    with pytest.raises(DataError, match=r"holds 0.5 at \[38, 4, 3\]"):
        made(tmp_path, array)


def test_booleans_are_two_levels(tmp_path: Path) -> None:
    data = made(tmp_path, PICTURES > 127, num_levels=2)
    data.serve("binary")
    x = data.draw("val", torch.arange(4))
    assert np.array_equal(x.numpy(), data.split["val"].images)  # 0 and 1 are certain, whatever the binarisation
    with pytest.raises(DataError, match=r"booleans.*type data.num_levels=2"):
        made(tmp_path, PICTURES > 127)


def test_the_split_depends_on_the_seed_of_the_data_alone(tmp_path: Path) -> None:
    first, again, other = (served(made(tmp_path, seed=seed, shuffle_seed=n)) for n, seed in enumerate((1, 1, 2)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert sorted(image.tobytes() for image in first) == sorted(image.tobytes() for image in other)


@pytest.mark.parametrize("labels", [np.arange(40) % 4, np.arange(40) % 4 - 2, (np.arange(40) % 4).astype("u8") + 2**63])
def test_with_labels_every_split_has_the_same_share_of_each(labels: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", labels)
    data = made(tmp_path, labels="labels.npy", fractions=[0.5, 0.3, 0.2])
    for name, share in (("train", 5), ("val", 3), ("test", 2)):
        found = data.split[name].labels
        assert found is not None
        assert np.unique(found, return_counts=True)[1].tolist() == [share] * 4
        for image, label in zip(data.split[name].images, found, strict=True):
            at = [np.array_equal(image[0], picture) for picture in PICTURES].index(True)
            assert labels[at] == label


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=5), st.tuples(*[st.floats(0.01, 1)] * 3))
def test_sizes_of_splits_add_up_for_all_fractions(counts: list[int], parts: Any) -> None:
    fractions = [part / sum(parts) for part in parts]
    sizes = sizes_of(fractions, np.array(counts))
    assert sizes.sum(1).tolist() == counts
    assert sizes.min() >= 0
    assert np.abs(sizes - np.outer(counts, fractions)).max() <= 1


def test_the_record_does_not_depend_on_the_data_folder(tmp_path: Path) -> None:
    records = []
    for folder in (tmp_path / "here", tmp_path / "there"):
        (folder / "deep").mkdir(parents=True)
        np.save(folder / "deep" / "mine.npy", PICTURES)
        data = Array(file="deep/./mine.npy", data_dir=folder)
        data.serve("unit")
        records.append(data.record())
    assert records[0] == records[1]
    found = [records[0][key] for key in ("name", "file", "fractions")]
    assert found == ["array", "deep/mine.npy", [0.8, 0.1, 0.1]]
    assert str(tmp_path) not in json.dumps(records)
    other = made(tmp_path, np.where(PICTURES == 7, 8, PICTURES))
    other.serve("unit")
    assert other.record()["sha256"] != records[0]["sha256"]


def test_a_dark_array_and_channels_last_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made(tmp_path)
    made(tmp_path, PICTURES % 16, num_levels=16)
    assert caplog.messages == []
    made(tmp_path, PICTURES % 16)
    assert "no pixel is above 15, half of what data.num_levels=256 allows" in caplog.text
    caplog.clear()
    made(tmp_path, np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3)))
    assert "is read as 6 channels of 5 x 3" in caplog.text
    assert "numpy.moveaxis(x, 3, 1)" in caplog.text


def test_a_link_to_a_file_elsewhere_is_followed(tmp_path: Path) -> None:
    np.save(tmp_path / "elsewhere.npy", PICTURES)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.npy").symlink_to(tmp_path / "elsewhere.npy")
    assert len(Array(file="mine.npy", data_dir=tmp_path / "data").split["train"]) == 32


@pytest.mark.slow
def test_a_run_is_the_same_wherever_its_array_lies(run_fast: Run, run_evaluate: Run, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "mine.npy", PICTURES)
        np.save(tmp_path / folder / "labels.npy", np.arange(40) % 2)
    line = ("data=array", "data.file=mine.npy", "data.labels=labels.npy")
    first = run_fast(*line, "data_dir=one", figures=True)
    assert first.path.name.startswith("array-bernoulli-")
    shutil.rmtree(tmp_path / "one")
    assert "finished before" in run_fast(*line, f"data_dir={tmp_path / 'two'}", figures=True).out
    for name in ("config.yaml", "record.json"):
        text = (first.path / name).read_text()
        assert "mine.npy" in text
        assert str(tmp_path) not in text
    run_evaluate(f"run_dir={first.path}", f"data_dir={tmp_path / 'two'}")
    evaluated = json.loads((first.path / "evaluation.json").read_text())
    assert evaluated["test/elbo"] == pytest.approx(results(first.path)["test/elbo"])
    np.save(tmp_path / "two" / "mine.npy", PICTURES[::-1])
    refused = run_fast(*line, "data_dir=two", "trainer.max_epochs=2", code=1, figures=True)
    assert "was trained on other data than data=array serves now" in refused.err


F = PICTURES / 255


def with_value(value: float, dtype: str = "f8") -> np.ndarray:
    array = PICTURES.astype(dtype)
    array[3, 2, 1] = value
    return array


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (with_value(np.nan), {}, ("nan at [3, 2, 1]", "whole numbers 0 .. 255", "replace what is not a number")),
        (with_value(-np.inf), {}, ("-inf at [3, 2, 1]",)),
        (with_value(-1, "i4"), {}, ("-1 at [3, 2, 1]", "scale the array to 0 .. 255")),
        (with_value(-1e-30), {}, ("-1e-30 at [3, 2, 1]", "scale the array to 0 .. 255")),
        (with_value(2**63, "u8"), {}, ("9223372036854775808 at", "scale the array")),
        (F, {}, ("at [0, 0, 1]", "multiply by 255 and round")),
        (PICTURES, {"num_levels": 17}, ("0 .. 16", "data.num_levels=17", "type data.num_levels=256")),
        (PICTURES * (1 + 0j), {}, ("complex128", "expected booleans or integers or real numbers")),
        (PICTURES.astype(str), {}, ("<U", "numpy.save")),
        (PICTURES.astype("M8[s]"), {}, ("datetime64[s]",)),
        (np.zeros((40, 6, 5), [("a", "u1")]), {}, ("'a'",)),
        (PICTURES[0], {}, ("shape (6, 5)", "[N, H, W] or [N, C, H, W]")),
        (np.zeros((), "u1"), {}, ("shape ()",)),
        (PICTURES[:, :0], {}, ("(40, 0, 5)", "at least one number")),
        (PICTURES[:2], {}, ("val split would be empty", "2 pictures", "data.fractions are [0.8, 0.1, 0.1]")),
        (PICTURES, {"fractions": [0.98, 0.01, 0.01]}, ("test split would be empty", "larger fraction")),
    ],
)
def test_an_array_of_other_things_is_one_data_error(
    array: Any, options: Any, words: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        made(tmp_path, array, **options)
    for word in (str(tmp_path / "mine.npy"), *words):
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("kind", ["empty", "text", "half", "short", "vast", "archive"])
def test_a_damaged_file_is_one_data_error(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", PICTURES)
    whole = (tmp_path / "mine.npy").read_bytes()
    vast = whole.replace(b"(40, 6, 5), }           ", b"(1048576, 1024, 1024), }")
    assert len(vast) == len(whole) != whole.find(b"(40, 6, 5)")
    damaged = {"empty": b"", "text": b"1 2 3\n4 5 6\n", "half": whole[:30], "short": whole[:-1], "vast": vast}
    (tmp_path / "mine.npy").write_bytes(damaged.get(kind, b"PK\x03\x04" + bytes(100)))
    with pytest.raises(DataError, match=r"mine.npy is not a whole .npy file.*save the array again with numpy.save$"):
        Array(file="mine.npy", data_dir=tmp_path)


class Exploit:
    """Makes a folder where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("kind", ["pictures", "labels", "a pickle", "an archive"])
def test_nothing_is_ever_unpickled(kind: str, tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / ("labels.npy" if kind == "labels" else "mine.npy")
    np.save(tmp_path / "mine.npy", PICTURES)
    objects = np.array([Exploit(mark)] * 40, dtype=object).reshape(-1, *((1, 1) if kind == "pictures" else ()))
    with file.open("wb") as stream:
        if kind == "a pickle":
            pickle.dump(objects, stream)
        elif kind == "an archive":
            np.savez(stream, arr_0=objects)
        else:
            np.save(stream, objects, allow_pickle=True)
    loaded = np.load(file, allow_pickle=True)
    _ = loaded["arr_0"] if kind == "an archive" else loaded
    mark.rmdir()  # it was there: the exploit works
    labels = "labels.npy" if kind == "labels" else None
    with pytest.raises(DataError, match="never unpickled"):
        Array(file="mine.npy", labels=labels, data_dir=tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["missing", "a folder", "a pipe", "a device"])
def test_what_is_not_a_regular_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.npy"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    expected = "does not exist" if kind == "missing" else "is not a regular file"
    with pytest.raises(DataError, match=rf"mine.npy {expected}.*VAELAB_DATA_DIR"):
        Array(file="mine.npy", data_dir=tmp_path)


@pytest.mark.parametrize(
    "file",
    ["/tmp/mine.npy", "a/../../mine.npy", ".", "", "C:\\mine.npy", "C:mine.npy", "..\\mine.npy", 5, ["mine.npy"]],
)
@pytest.mark.parametrize("key", ["file", "labels"])
def test_a_path_that_leaves_the_data_folder_is_refused(file: Any, key: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", PICTURES)
    (tmp_path / "data" / "a").mkdir(parents=True)
    options = {"file": "mine.npy"} | {key: file}
    with pytest.raises(ValueError, match=rf"data\.{key} must .*below data_dir, found .*type .*data\.{key}=") as caught:
        Array(**options, data_dir=tmp_path / "data")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "fractions", [[0.8, 0.1, 0.2], [0.8, 0.1], [1.2, -0.1, -0.1], [np.nan, 0.5, 0.5], ["0.8", "0.1", "0.1"], None, 0.8]
)
def test_other_fractions_are_refused(fractions: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"three numbers above 0 that add up to 1.*type data.fractions=\[0.8,0.1,0.1\]"
    ):
        made(tmp_path, fractions=fractions)


@pytest.mark.parametrize("num_levels", [1, 257, 2.5, True, None, "256"])
def test_other_numbers_of_levels_are_refused(num_levels: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.num_levels must be a whole number from 2 to 256.*found"):
        made(tmp_path, num_levels=num_levels)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(39), ("39 labels for 40 pictures", "one for each")),
        (np.arange(40.0), ("float64", "expected integers")),
        (np.zeros((40, 10), int), ("shape (40, 10)", "[N]")),
    ],
)
def test_other_labels_are_one_data_error(labels: Any, words: tuple[str, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(DataError) as caught:
        made(tmp_path, labels="labels.npy")
    for word in (str(tmp_path / "labels.npy"), *words):
        assert word in str(caught.value)


def test_labels_too_rare_for_a_split_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.arange(40))
    with pytest.raises(DataError, match=r"val split would be empty.*label by label \(40 labels\).*data.labels=null"):
        made(tmp_path, labels="labels.npy")
