"""A user's own array is read value by value, split by fractions, or refused with what to do."""

import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.commands import Run, evaluation, results
from vaelab.data import Array
from vaelab.data.reading import picture_files, read_pictures
from vaelab.data.splits import sizes_of
from vaelab.errors import DataError

PICTURES = np.random.default_rng(0).integers(0, 256, (40, 6, 5))
PICTURES[0, 0, 0] = 255


def made(folder: Path, array: Any = PICTURES, **options: Any) -> Array:
    np.save(folder / "mine.npy", array)
    return Array(file="mine.npy", data_dir=folder, **options)


def served(data: Array) -> np.ndarray:
    return np.concatenate([split.images for split in data.split.values()])


@pytest.mark.parametrize(("dtype", "order"), [("u1", "F"), (">i4", "C"), ("u8", "C"), ("f2", "F"), ("longdouble", "C")])
def test_whole_numbers_of_any_real_type_are_served_as_bytes(dtype: str, order: Any, tmp_path: Path) -> None:
    data = made(tmp_path, np.asarray(PICTURES.astype(dtype), order=order))
    assert data.event_shape == (1, 6, 5)
    assert served(data).dtype == np.uint8
    found = {image.tobytes() for image in served(data)}
    assert found == {image.astype(np.uint8).tobytes() for image in PICTURES}
    assert [len(split) for split in data.split.values()] == [32, 4, 4]


@pytest.mark.parametrize(
    ("shape", "channels", "event_shape"),
    [
        ((30, 3, 6, 5), None, (3, 6, 5)),
        ((30, 6, 5, 3), None, (3, 6, 5)),
        ((30, 6, 5, 1), None, (1, 6, 5)),
        ((30, 3, 6, 3), "first", (3, 6, 3)),
        ((30, 3, 6, 3), "last", (3, 3, 6)),
        ((30, 6, 5, 4), "last", (4, 6, 5)),
    ],
)
def test_channels_come_first_or_last_as_the_shape_says(
    shape: tuple[int, ...], channels: Any, event_shape: tuple[int, ...], tmp_path: Path
) -> None:
    colours = np.random.default_rng(1).integers(0, 4, shape)
    data = made(tmp_path, colours, num_levels=4, channels=channels)
    assert data.event_shape == event_shape
    expected = colours if shape[1:] == event_shape else np.moveaxis(colours, 3, 1)
    found = {image.tobytes() for image in served(data)}
    assert found == {image.astype(np.uint8).tobytes() for image in expected}


@pytest.mark.parametrize("shape", [(30, 3, 6, 3), (30, 1, 6, 1), (30, 6, 5, 4)])
def test_an_unclear_axis_of_channels_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    words = r"does not say where the channels are: type data.channels=first .*data.channels=last"
    with pytest.raises(DataError, match=words):
        made(tmp_path, np.random.default_rng(1).integers(0, 256, shape))


def test_booleans_are_kept(tmp_path: Path) -> None:
    data = made(tmp_path, PICTURES > 127, num_levels=2)
    data.serve("binary")
    x = data.draw("val", torch.arange(4))
    assert np.array_equal(x.numpy(), data.split["val"].images)


def test_an_archive_gives_its_only_array_or_the_one_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", PICTURES)
    np.savez_compressed(tmp_path / "two.npz", pictures=PICTURES, labels=np.arange(40) % 2)
    expected = served(made(tmp_path))
    assert np.array_equal(served(Array(file="one.npz", data_dir=tmp_path)), expected)
    assert np.array_equal(served(Array(file="two.npz:pictures", data_dir=tmp_path)), expected)
    labels = Array(file="one.npz", labels="two.npz:labels", data_dir=tmp_path).split["test"].labels
    assert labels is not None
    assert sorted(labels) == [0, 0, 1, 1]
    for file in ("two.npz", "two.npz:others"):
        with pytest.raises(DataError, match=r"two.npz holds the arrays \['pictures', 'labels'\]: .*two.npz:NAME"):
            Array(file=file, data_dir=tmp_path)


def test_an_archive_of_another_file_is_one_data_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(DataError, match=r"mine.npz holds \|S5 of shape \(\), expected booleans"):
        Array(file="mine.npz", data_dir=tmp_path)


def folder_of(folder: Path, *pictures: np.ndarray) -> Path:
    for number, picture in enumerate(pictures):
        file = folder / "pictures" / str(number % 2) / f"{number:02}.PNG"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file)
    return folder / "pictures"


@pytest.mark.parametrize("shape", [(6, 5), (6, 3, 3)])
def test_a_folder_gives_the_pictures_below_it(
    shape: tuple[int, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (20, *shape), np.uint8)
    folder = folder_of(tmp_path, *pictures)
    (folder / "notes.txt").write_text("no picture")
    ordered = np.concatenate([pictures[::2], pictures[1::2]])  # the order of their paths
    data = Array(file="pictures", labels="none", data_dir=tmp_path)
    assert data.split["train"].labels is None
    assert "skipped 1 of 21 files, because pictures end in .png, .jpg" in caplog.text
    assert data.event_shape == ((1, 6, 5) if len(shape) == 2 else (3, 6, 3))
    assert np.array_equal(served(data), served(made(tmp_path, ordered, channels="last")))


def test_sub_folders_are_labels_and_stratify_the_split(tmp_path: Path) -> None:
    for label, name in enumerate(("hunde", "katzen/jung", "Vögel été")):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (7, 3), (label, number, 255)).save(folder / f"{number}.png")
    data = Array(file="pictures", data_dir=tmp_path)
    data.serve("unit")
    assert data.record()["labels"] == ["Vögel été", "hunde", "katzen"]
    for split, number in zip(data.split.values(), (24, 3, 3), strict=True):
        assert split.images.shape == (number, 3, 3, 7)
        assert split.labels is not None
        assert np.array_equal(split.images[:, 0, 0, 0], np.array([2, 0, 1])[split.labels])
        assert np.unique(split.labels, return_counts=True)[1].tolist() == [number / 3] * 3


def test_pictures_beside_sub_folders_or_in_a_single_one_have_no_labels(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, *PICTURES.astype(np.uint8))
    Array(file="pictures", data_dir=tmp_path)
    Image.new("L", (5, 6)).save(folder / "beside.png")
    assert Array(file="pictures", data_dir=tmp_path).split["train"].labels is None
    assert Array(file="pictures/0", data_dir=tmp_path).split["train"].labels is None


def test_sub_folders_of_splits_are_no_labels(tmp_path: Path) -> None:
    for name in ("test", "Train"):
        folder_of(tmp_path / "mine" / name, *PICTURES.astype(np.uint8))
    with pytest.raises(DataError, match=r"sub-folders for splits \(Train, test\), expected one for each label: give"):
        Array(file="mine", data_dir=tmp_path)


def test_sub_folders_too_small_to_split_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, *PICTURES[:6].astype(np.uint8))
    with pytest.raises(DataError, match=r"pictures has sub-folders of so few pictures .*: type data.labels=none"):
        Array(file="pictures", data_dir=tmp_path)


def test_colours_of_a_palette_are_read_unless_transparent(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 3), np.uint8)[np.arange(30) % 4].reshape(6, 5, 3)
    picture = Image.fromarray(colours).quantize(4)
    picture.save(tmp_path / "1.png")
    assert np.array_equal(read_pictures(picture_files(tmp_path))[0], colours)
    grey = PICTURES[0].astype(np.uint8)
    Image.fromarray(grey).convert("P").save(tmp_path / "1.png")  # a palette of greys
    assert np.array_equal(read_pictures(picture_files(tmp_path))[0], grey)
    picture.save(tmp_path / "1.png", transparency=0)
    with pytest.raises(DataError, match=r"1.png has the mode P, expected L .* or RGB: .*convert\('RGB'\)"):
        read_pictures(picture_files(tmp_path))


def test_pictures_are_sorted_by_path_as_text(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for level, name in enumerate(("10.png", "2.png", "a.png", "a/0.png")):
        Image.new("L", (5, 6), level).save(tmp_path / name)
    assert read_pictures(picture_files(tmp_path))[:, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_a_picture_is_turned_as_its_exif_says(ending: str, tmp_path: Path) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 8  # stored turned to the right by a quarter
    lossless = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(upright).save(tmp_path / f"1.{ending}", **lossless)
    Image.fromarray(np.rot90(upright, -1)).save(tmp_path / f"2.{ending}", exif=exif, **lossless)
    first, second = read_pictures(picture_files(tmp_path))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_a_picture_of_several_frames_is_refused(ending: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 6), colour) for colour in ("black", "white")]
    frames[0].save(tmp_path / f"1.{ending}", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=rf"1.{ending} has 2 frames, expected one: save each as a file of its own"):
        read_pictures(picture_files(tmp_path))


def test_sizes_are_compared_before_a_picture_is_decoded(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, GREY, COLOUR)
    damaged, file = folder / "0" / "00.PNG", folder / "1" / "01.PNG"
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(DataError, match=r"01.PNG has the mode RGB"):
        read_pictures(picture_files(folder))
    for side in (10_000, 20_000):  # Pillow warns of the one and refuses the other
        size = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        header = struct.pack(">I", 13) + size + struct.pack(">I", zlib.crc32(size))
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + file.read_bytes()[33:])
        with pytest.raises(DataError, match=r"01.PNG is too large, expected at most \d+ pixels: scale it down.*it$"):
            read_pictures(picture_files(folder))


GREY, COLOUR = np.zeros((6, 5), np.uint8), np.zeros((6, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        ((), "pictures holds no picture, expected files that end in .png, .jpg"),
        ((GREY, GREY.T), r"01.PNG has the shape \(5, 6\), but 00.PNG has the shape \(6, 5\): expected pictures"),
        ((GREY, COLOUR), "01.PNG has the mode RGB .*, but 00.PNG has the mode L .*: expected pictures of one mode"),
        ((GREY > 0, GREY), "01.PNG has the mode L .*, but 00.PNG has the mode 1 "),
        ((GREY, np.zeros((6, 6), np.uint8)), "01.PNG has the mode L and sides of 6 and 6 pixels, .* of 5 and 6"),
        ((np.zeros((6, 5, 4), np.uint8),), r"00.PNG has the mode RGBA, expected L \(grey\) or RGB: .*convert\('RGB'\)"),
        ((GREY.astype(np.uint16),), "mode I;16, .*: scale the pixels .* as an array of 0 .. 255 with numpy.save"),
        ((GREY > 0,), "pictures holds booleans, .*type data.num_levels=2"),
    ],
)
def test_a_folder_of_other_things_is_one_data_error(pictures: Any, words: str, tmp_path: Path) -> None:
    folder_of(tmp_path, *pictures).mkdir(exist_ok=True)
    with pytest.raises(DataError, match=words) as caught:
        Array(file="pictures", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    file = folder_of(tmp_path, *PICTURES.astype(np.uint8)) / "0" / "00.PNG"
    for content in (file.read_bytes()[:50], b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n"):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"00.PNG is not a whole picture: save it again, or remove it$"):
            Array(file="pictures", data_dir=tmp_path)


def test_the_split_depends_on_the_seed_of_the_data_alone(tmp_path: Path) -> None:
    first, again, other = (served(made(tmp_path, seed=seed, shuffle_seed=n)) for n, seed in enumerate((1, 1, 2)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert sorted(image.tobytes() for image in first) == sorted(image.tobytes() for image in other)


@pytest.mark.parametrize("labels", [np.arange(40) % 4 - 2, (np.arange(40) % 4).astype("u8") + 2**63])
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


@given(st.integers(1, 10_000), st.tuples(*[st.floats(0.01, 1)] * 3))
def test_sizes_of_splits_add_up_for_all_fractions(count: int, parts: Any) -> None:
    fractions = np.array(parts) / sum(parts)
    sizes = sizes_of(fractions.tolist(), count)
    assert sum(sizes) == count
    assert min(sizes) >= 0
    assert np.abs(sizes - fractions * count).max() <= 1


def test_the_record_does_not_depend_on_the_data_folder(tmp_path: Path) -> None:
    records = []
    for folder in (tmp_path / "here", tmp_path / "there"):
        (folder / "deep").mkdir(parents=True)
        np.save(tmp_path / "elsewhere.npy", PICTURES)
        (folder / "deep" / "mine.npy").symlink_to(tmp_path / "elsewhere.npy")
        data = Array(file="deep/./mine.npy", data_dir=folder)
        data.serve("unit")
        records.append(data.record())
    assert records[0] == records[1]
    found = [records[0][key] for key in ("name", "file", "fractions")]
    assert found == ["array", "deep/mine.npy", [0.8, 0.1, 0.1]]
    assert str(tmp_path) not in json.dumps(records)


def test_a_dark_array_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made(tmp_path)
    made(tmp_path, PICTURES % 16, num_levels=16)
    assert caplog.messages == []
    made(tmp_path, PICTURES % 16)
    assert "no pixel is above 15, half of what data.num_levels=256 allows" in caplog.text


@pytest.mark.slow
def test_a_run_is_the_same_wherever_its_array_lies(run_fast: Run, run_evaluate: Run, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "mine.npy", PICTURES)
        np.save(tmp_path / folder / "labels.npy", np.arange(40) % 2)
    line = ("data=array", "data.file=mine.npy", "data.labels=labels.npy")
    first = run_fast(*line, "data_dir=one", figures=True)
    assert first.path.name.startswith("array-mine-bernoulli-")
    shutil.rmtree(tmp_path / "one")
    assert "finished before" in run_fast(*line, f"data_dir={tmp_path / 'two'}", figures=True).out
    for name in ("config.yaml", "record.json"):
        text = (first.path / name).read_text()
        assert "mine.npy" in text
        assert str(tmp_path) not in text
    run_evaluate(f"run_dir={first.path}", f"data_dir={tmp_path / 'two'}")
    evaluated = evaluation(first.path)
    assert evaluated["test/elbo"] == pytest.approx(results(first.path)["test/elbo"])
    np.save(tmp_path / "two" / "mine.npy", PICTURES[::-1])
    refused = run_fast(*line, "data_dir=two", "trainer.max_epochs=2", code=1, figures=True)
    assert "was trained on data that differ from data=array now" in refused.err


def with_value(value: float, dtype: str = "f8") -> np.ndarray:
    array = PICTURES.astype(dtype)
    array[3, 2, 1] = value
    return array


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (with_value(np.nan), {}, ("nan at [3, 2, 1]", "whole numbers 0 .. 255", "replace NaN")),
        (with_value(-1, "i4"), {}, ("-1 at [3, 2, 1]", "scale the array")),
        (with_value(2**63, "u8"), {}, ("9223372036854775808 at",)),
        (PICTURES / 255, {}, ("at [0, 0, 1]", "multiply by 255 and round")),
        (PICTURES, {"num_levels": 17}, ("0 .. 16", "data.num_levels=17", "data.num_levels=256")),
        (PICTURES > 0, {}, ("booleans", "type data.num_levels=2")),
        (PICTURES.astype(str), {}, ("<U", "expected booleans or integers or real numbers", "numpy.save")),
        (PICTURES[0], {}, ("shape (6, 5)", "[N, H, W], [N, C, H, W] or [N, H, W, C]")),
        (PICTURES[:, :0], {}, ("(40, 0, 5)", "at least one")),
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
    assert len(str(caught.value)) < 450


@pytest.mark.parametrize("kind", ["empty", "text", "short", "vast", "archive"])
def test_a_damaged_file_is_one_data_error(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", PICTURES)
    whole = (tmp_path / "mine.npy").read_bytes()
    vast = whole.replace(b"(40, 6, 5), }           ", b"(1048576, 1024, 1024), }")
    assert len(vast) == len(whole) != whole.find(b"(40, 6, 5)")
    damaged = {"empty": b"", "text": b"1 2 3\n4 5 6\n", "short": whole[:-1], "vast": vast}
    (tmp_path / "mine.npy").write_bytes(damaged.get(kind, b"PK\x03\x04" + bytes(100)))
    with pytest.raises(DataError, match=r"mine.npy is not a whole .npy file.*save the array again with numpy.save$"):
        Array(file="mine.npy", data_dir=tmp_path)


class Exploit:
    """Makes a folder where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["mine.npy", "mine.npz"])
@pytest.mark.parametrize("kind", ["an array", "an archive", "a pickle"])
def test_nothing_is_ever_unpickled(kind: str, name: str, tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / name
    objects = np.array([Exploit(mark)] * 40, dtype=object).reshape(-1, 1, 1)
    with file.open("wb") as stream:
        if kind == "a pickle":
            pickle.dump(objects, stream)
        elif kind == "an array":
            np.save(stream, objects, allow_pickle=True)
        else:
            np.savez(stream, objects, allow_pickle=True)
    loaded = np.load(file, allow_pickle=True)
    if kind == "an archive":
        loaded["arr_0"]
    mark.rmdir()  # it was there: the exploit works
    with pytest.raises(DataError, match="never unpickled"):
        Array(file=name, data_dir=tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["missing", "a pipe", "a device"])
def test_what_is_not_a_regular_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.npy"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    expected = "does not exist" if kind == "missing" else "is not a regular file"
    with pytest.raises(DataError, match=rf"mine.npy {expected}.*VAELAB_DATA_DIR"):
        Array(file="mine.npy", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fractions": [0.8, 0.1, 0.2]}, r"three numbers above 0 that add up to 1.*data.fractions=\[0.8,0.1,0.1\]"),
        ({"fractions": [np.nan, 0.5, 0.5]}, "three numbers above 0"),
        ({"fractions": 0.8}, "three numbers above 0.*found 0.8"),
        ({"channels": "middle"}, "data.channels must be first, last or null, found 'middle'"),
        ({"num_levels": 257}, "data.num_levels must be a whole number from 2 to 256.*found 257"),
        ({"file": None}, r"data\.file must .*below data_dir, found None.*data\.file=mine.npy"),
        ({"file": "/tmp/mine.npy"}, r"data\.file must .*below data_dir, found .*data\.file=mine.npy"),
        ({"file": "a/../../mine.npy"}, r"data\.file must .*below data_dir"),
        ({"file": "C:mine.npy"}, r"data\.file must .*below data_dir"),
        ({"file": "a/../../mine.npz:x"}, r"data\.file must .*below data_dir"),
        ({"labels": "..\\mine.npy"}, r"data\.labels must .*below data_dir.*data\.labels=mine.npy"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", PICTURES)
    with pytest.raises(ValueError, match=words):
        Array(**{"file": "mine.npy", "data_dir": tmp_path} | options)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(39), "labels.npy holds 39 labels for 40 pictures: expected one for each"),
        (np.arange(40.0), "labels.npy holds float64 .* expected integers"),
        (np.arange(40), "the val split would be empty"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(DataError, match=words):
        made(tmp_path, labels="labels.npy")
