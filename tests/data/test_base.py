"""Pixels as each head models them, splits, the record of the data, and batches as indices."""

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import open_dict

from vaelab.data import Digits, ImageData, MNIST5k, Split
from vaelab.data.base import BLOCK_SIZE
from vaelab.data.batches import Block, Blocks, TrainingIndices
from vaelab.data.splits import SPLITS, contiguous_split, shuffled_split, stratified_split
from vaelab.errors import ConfigError, DataError
from vaelab.pixels import bits_per_dim
from vaelab.runs.build import build

SIZES = (60, 20, 20)
SEEDS = st.integers(0, 2**31)


class Levels(ImageData):
    """Images of one value: `level` everywhere."""

    name = "levels"

    def __init__(self, level: int, num_levels: int = 256, **kwargs: Any) -> None:
        self.level = level
        self.num_levels = num_levels
        super().__init__(**kwargs)

    def splits(self) -> dict[Any, Split]:
        images = np.full((2 * BLOCK_SIZE, 1, 25, 20), self.level, np.uint8)
        return {name: Split(images.copy()) for name in SPLITS}


class Colours(ImageData):
    """A user's own set: 3 channels, 5 x 4 pixels, fewer validation images than a figure shows."""

    name = "colours"

    def __init__(self, shape: tuple[int, ...] = (3, 5, 4), dtype: str = "uint8", sizes: Any = (30, 5, 7), **kw: Any):
        self.shape, self.dtype, self.sizes = tuple(shape), dtype, sizes
        super().__init__(**kw)

    def splits(self) -> dict[Any, Split]:
        rng = np.random.default_rng(self.seed)
        parts = [rng.integers(0, 256, (size, *self.shape)).astype(self.dtype) for size in self.sizes]
        return {name: Split(part) for name, part in zip(SPLITS, parts, strict=True)}


def served(data: ImageData, pixels: str) -> ImageData:
    data.serve(pixels)
    return data


def draw_all(data: ImageData) -> torch.Tensor:
    """Draw the training split: 100,000 pixels of `Levels`."""
    return data.draw("train", torch.arange(data.num_train))


# pixels


@pytest.mark.parametrize(("level", "num_levels"), [(1, 256), (15, 17)])
def test_dynamic_binarisation_has_the_probability_of_the_level(level: int, num_levels: int) -> None:
    x = draw_all(served(Levels(level, num_levels), "binary"))
    p = level / (num_levels - 1)
    assert set(x.unique().tolist()) <= {0.0, 1.0}
    assert abs(x.mean().item() - p) < 5 * np.sqrt(p * (1 - p) / x.numel())


def test_dynamic_binarisation_is_independent_from_pixel_to_pixel() -> None:
    x = draw_all(served(Levels(128), "binary")).reshape(-1, 8)
    correlation = torch.corrcoef(x.T) - torch.eye(8)
    assert correlation.abs().max() < 5 / len(x) ** 0.5


@pytest.mark.parametrize("binarize", ["dynamic", "fixed", "threshold"])
def test_binarised_black_is_never_one_and_binarised_white_always(binarize: Any) -> None:
    assert draw_all(served(Levels(0, 17, binarize=binarize), "binary")).max() == 0
    assert draw_all(served(Levels(16, 17, binarize=binarize), "binary")).min() == 1


@pytest.mark.parametrize("pixels", ["binary", "unit"])
def test_pixels_are_resampled_at_every_draw(pixels: str) -> None:
    data = served(Levels(128), pixels)
    assert (draw_all(data) != draw_all(data)).float().mean() > 0.4


@pytest.mark.parametrize("num_levels", [256, 17])
def test_threshold_is_one_above_half_of_the_largest_level(num_levels: int) -> None:
    ramp = np.arange(num_levels)
    data = Levels(0, num_levels, binarize="threshold")
    data.split["train"].images[0].flat[:num_levels] = ramp
    x = draw_all(served(data, "binary"))[0].flatten()[:num_levels]
    assert x.tolist() == [float(level / (num_levels - 1) > 0.5) for level in ramp]


def test_fixed_binarisation_depends_only_on_split_and_data_seed() -> None:
    def drawn(**seeds: int) -> torch.Tensor:
        return draw_all(served(Levels(100, binarize="fixed", **seeds), "binary"))

    first = drawn(seed=1, shuffle_seed=1)
    torch.manual_seed(1)
    assert torch.equal(first, drawn(seed=1, shuffle_seed=2))
    assert not torch.equal(first, drawn(seed=2))
    assert abs(first.mean().item() - 100 / 255) < 5 * 0.5 / np.sqrt(first.numel())
    images = served(Levels(100, binarize="fixed"), "binary").images
    assert not any(torch.equal(images[a], images[b]) for a, b in combinations(SPLITS, 2))


@pytest.mark.parametrize(("level", "num_levels"), [(0, 256), (9, 17)])
def test_dequantised_pixels_are_uniform_on_their_cell(level: int, num_levels: int) -> None:
    x = draw_all(served(Levels(level, num_levels), "unit")).double()
    width, n = 1 / num_levels, x.numel()
    assert x.min() >= level * width
    assert x.max() <= (level + 1) * width
    variance = width**2 / 12
    assert abs(x.mean() - (level + 0.5) * width) < 5 * np.sqrt(variance / n)
    # a uniform variable's fourth central moment is width^4 / 80
    assert abs(x.var() - variance) < 5 * np.sqrt((width**4 / 80 - variance**2) / n)


@pytest.mark.parametrize("noise", [0.0, 1 - 2.0**-24])  # the ends of what torch.rand returns
def test_unit_pixels_lie_strictly_inside_zero_and_one(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, noise))
    for level in (0, 255):
        x = draw_all(served(Levels(level), "unit"))
        assert x.min() > 0
        assert x.max() < 1


def test_levels_are_the_bytes_as_floats() -> None:
    data = served(Digits(), "levels")
    x = draw_all(data)
    assert (x.dtype, data.images["train"].dtype) == (torch.float32, torch.uint8)
    assert np.array_equal(x.numpy(), data.split["train"].images)
    assert (x.min(), x.max()) == (0, data.max_pixel) == (0, 16)
    assert served(data, "unit").max_pixel == 1


def test_unknown_pixels_and_binarisations_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"binary, unit, levels.*'grey'"):
        Digits().serve("grey")
    with pytest.raises(ValueError, match=r"dynamic, threshold or fixed.*'foo'"):
        Digits(binarize="foo")  # type: ignore[arg-type]


@pytest.mark.parametrize("pixels", ["binary", "unit"])
def test_block_draws_depend_only_on_seed_split_and_number(pixels: str) -> None:
    def block(number: int) -> Block:
        return Block(number, torch.arange(5))

    data, other = served(Levels(100, shuffle_seed=0), pixels), served(Levels(100, seed=1), pixels)
    first, second = data.draw_block("test", block(0)), data.draw_block("test", block(1))
    torch.manual_seed(5)
    assert torch.equal(first, data.draw_block("test", block(0)))
    assert torch.equal(first, served(Levels(100, shuffle_seed=9), pixels).draw_block("test", block(0)))
    draws = [first, second, data.draw_block("val", block(0)), other.draw_block("test", block(0))]
    assert not any(torch.equal(x, y) for x, y in combinations(draws, 2))


@pytest.mark.parametrize(
    ("nats", "shape", "pixels", "num_levels", "bits"),
    [
        (-12 * np.log(256), (1, 4, 3), "levels", 256, 8),  # a uniform mass
        (0.0, (1, 8, 8), "unit", 17, np.log2(17)),  # a uniform density
        (1234, (1, 28, 20), "unit", 256, 4.82),  # as published
    ],
)
def test_nats_become_bits_per_dimension(nats: float, shape: Any, pixels: str, num_levels: int, bits: float) -> None:
    assert bits_per_dim(nats, shape, pixels, num_levels) == pytest.approx(bits, abs=0.005)


# without a model


def test_data_draw_any_pixels_at_once() -> None:
    data, indices = Digits(), range(5)
    assert torch.equal(data.draw("test", indices, pixels="levels"), torch.tensor(data.split["test"].images[:5]).float())
    assert data.draw("test", [3], pixels="unit").frac().min() > 0
    with pytest.raises(ConfigError, match="digits can be drawn as several pixels: give pixels='binary', 'unit' or"):
        data.draw("test", indices)
    assert Digits(pixels="levels").draw("val", torch.tensor([0])).max() > 1


def test_other_pixels_are_drawn_on_the_device_of_the_data() -> None:
    data = served(Digits(), "binary")
    for device in ("cpu", "meta"):
        data.to(torch.device(device))
        assert data.draw("test", [0], pixels="levels").device.type == device
    data.serve("unit")
    assert data.draw("test", [0]).device.type == "meta"


def test_drawing_other_pixels_does_not_change_what_is_served() -> None:
    data = served(Digits(), "binary")
    assert data.draw("test", range(5), pixels="levels").max() == 16
    assert data.pixels == "binary"
    assert data.draw("test", range(5)).max() == 1


def test_labels_come_with_the_examples() -> None:
    data = Digits()
    assert data.labels("test", [2, 0]).tolist() == data.split["test"].labels[[2, 0]].tolist()  # type: ignore
    assert len(data.labels("val")) == len(data.split["val"])  # type: ignore[arg-type]
    assert Levels(1).labels("val") is None


def test_data_lie_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAELAB_DATA_DIR", "~/elsewhere")
    assert Levels(1).data_dir == Path.home() / "elsewhere"
    assert Levels(1, data_dir="here").data_dir == Path("here")


# splits


def numbered(size: int, labels: Any = None) -> Split:
    """Make images that tell their own number."""
    numbers = np.arange(size, dtype=np.uint16)
    return Split(numbers.view(np.uint8).reshape(size, 1, 1, 2), labels)


def numbers(split: Split) -> list[int]:
    return np.ascontiguousarray(split.images).view(np.uint16).flatten().tolist()


def in_all(splits: dict[Any, Split]) -> list[int]:
    return [number for split in splits.values() for number in numbers(split)]


@given(SEEDS)
def test_a_shuffled_split_permutes_by_the_seed(seed: int) -> None:
    splits = shuffled_split(numbered(100), SIZES, seed)
    assert sorted(in_all(splits)) == list(range(100))
    assert tuple(len(split) for split in splits.values()) == SIZES
    assert in_all(splits) == in_all(shuffled_split(numbered(100), SIZES, seed))
    assert in_all(splits) != in_all(shuffled_split(numbered(100), SIZES, seed + 1))


def test_a_contiguous_split_keeps_the_order_of_the_film() -> None:
    splits = contiguous_split(numbered(100), SIZES)
    assert tuple(splits) == SPLITS
    assert in_all(splits) == list(range(100))
    with pytest.raises(DataError, match=r"expected 100 images .* found 99"):
        contiguous_split(numbered(99), SIZES)


@given(st.lists(st.integers(0, 3), min_size=10, max_size=300), SEEDS)
def test_a_stratified_split_shares_each_label_alike(labels: list[int], seed: int) -> None:
    splits = stratified_split(numbered(len(labels), np.array(labels)), seed)
    assert sorted(in_all(splits)) == list(range(len(labels)))
    for split, fraction in zip(splits.values(), (0.8, 0.1, 0.1), strict=True):
        assert split.labels is not None
        assert [labels[number] for number in numbers(split)] == split.labels.tolist()
        for label, size in Counter(labels).items():
            assert abs((split.labels == label).sum() - fraction * size) <= 1


def test_the_digits_are_split_80_10_10_by_class() -> None:
    assert [len(split) for split in Digits(seed=3).split.values()] == [1438, 180, 179]
    for split, size in zip(MNIST5k().split.values(), (400, 50, 50), strict=True):
        assert split.labels is not None
        assert np.bincount(split.labels).tolist() == [size] * 10


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"dtype": "float32"}, "expected images as a NumPy array of uint8, found a ndarray of float32"),
        ({"sizes": (30, 0, 7)}, "the val split would be empty"),
        ({"shape": (1, 0, 4)}, "expected one shape of image"),
        ({"shape": (5, 4)}, r"expected one shape of image, \[channels, height, width\] .*found \[\(5, 4\)\]"),
    ],
)
def test_images_that_are_not_bytes_of_one_shape_are_refused(arguments: dict[str, Any], what: str) -> None:
    with pytest.raises(DataError, match=what):
        Colours(**arguments)


IMAGES = np.full((4, 1, 2, 3), 7, np.uint8)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (IMAGES, "Own.splits returned ndarray: expected a dict of vaelab.data.Split with the keys train, val and test"),
        (
            {"train": Split(IMAGES), "test": Split(IMAGES)},
            r"Own.splits returned \['train', 'test'\]: expected a dict of",
        ),
        (dict.fromkeys(SPLITS, IMAGES), "Own.splits returned .*: expected a dict of vaelab.data.Split"),
        (dict.fromkeys(SPLITS, Split(IMAGES, np.arange(3))), "expected a label for each of 4 images, found 3 in train"),
        (dict.fromkeys(SPLITS, Split(IMAGES + 9)), "expected levels below num_levels=16, found 16 in the train split"),
    ],
)
def test_splits_of_other_things_are_one_line(returned: Any, words: str) -> None:
    own = type("Own", (ImageData,), {"name": "own", "num_levels": 16, "splits": lambda self: returned})
    with pytest.raises(DataError, match=words) as caught:
        own()
    assert "\n" not in str(caught.value)


# record


def test_the_record_says_what_was_served_in_plain_data() -> None:
    record = served(Digits(seed=4, binarize="fixed"), "binary").record()
    hashes = record.pop("sha256")
    assert record == {
        **{"name": "digits", "seed": 4, "pixels": "binary", "binarize": "fixed"},
        **{"event_shape": [1, 8, 8], "num_levels": 17, "sizes": {"train": 1438, "val": 180, "test": 179}},
    }
    assert {len(value) for value in hashes.values()} == {64}
    assert len(set(hashes.values())) == 3
    assert "binarize" not in served(Digits(), "unit").record()


# a user's own images


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((3, 5, 4), ["decoder=gaussian"]),
        ((2, 1, 6), ["decoder=bernoulli"]),
        ((3, 9, 8), ["decoder=mixture_of_logistics", "network=conv"]),
    ],
)
def test_images_of_any_shape_make_a_model_of_that_shape(shape: tuple[int, ...], parts: Any, composed: Any) -> None:
    cfg = composed("data=digits", *parts, "hidden_features=6", "latent_dim=3")
    with open_dict(cfg):
        cfg.data = {"_target_": f"{__name__}.Colours", "shape": list(shape)}
    data, module = build(cfg)
    assert data.event_shape == shape
    p = module.vae.decode(module.vae.encode(data.draw("train", torch.arange(4))).sample((2,)))
    assert (p.batch_shape, p.event_shape) == ((2, 4), shape)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "latent_dim"), [("[3,5,4]", 2), ("[2,6,3]", 1)])
def test_a_users_own_images_train_to_the_end(shape: str, latent_dim: int, run_fast: Any) -> None:
    target = [f"data._target_={__name__}.Colours", f"+data.shape={shape}", "decoder=gaussian"]
    path: Path = run_fast(*target, f"latent_dim={latent_dim}", figures=True).path
    assert (path / "figures" / "reconstructions.png").exists()


# batches


@st.composite
def loaders(draw: st.DrawFn) -> dict[str, int]:
    names = {"num_examples": (1, 60), "batch_size": (1, 25), "batches_per_chunk": (1, 7), "seed": (0, 10**6)}
    return {name: draw(st.integers(*limits)) for name, limits in names.items()}


def epoch_of(loader: TrainingIndices, epoch: int) -> list[list[int]]:
    loader.steps_done = epoch * loader.batches_per_epoch
    return [batch.tolist() for chunk in loader for batch in chunk.batches]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


@given(loaders(), st.integers(0, 5))
def test_an_epoch_is_a_permutation_with_its_last_smaller_batch(sizes: dict[str, int], epoch: int) -> None:
    loader = TrainingIndices(**sizes)
    batches = epoch_of(loader, epoch)
    n, size = sizes["num_examples"], sizes["batch_size"]
    assert sorted(flat(batches)) == list(range(n))
    assert [len(batch) for batch in batches] == [size] * (n // size) + [n % size] * (n % size > 0)
    assert len(batches) == loader.batches_per_epoch


def test_epochs_and_seeds_differ_in_their_order() -> None:
    loader, other = (TrainingIndices(100, 10, 3, seed) for seed in (0, 1))
    orders = [flat(epoch_of(loader, 0)), flat(epoch_of(loader, 1)), flat(epoch_of(other, 0))]
    assert all(a != b for a, b in combinations(orders, 2))


def test_without_shuffling_each_epoch_has_the_order_of_the_data() -> None:
    loader = Colours(shuffle=False, batch_size=8).train_dataloader()
    for epoch in (0, 3):
        assert epoch_of(loader, epoch) == [list(range(start, min(start + 8, 30))) for start in (0, 8, 16, 24)]
    with pytest.raises(ValueError, match=r"data\.shuffle must be true or false, found 'maybe'"):
        Colours(shuffle="maybe")


@given(loaders(), st.integers(1, 3), st.integers(0, 3))
def test_the_shares_of_the_processes_partition_each_batch(sizes: dict[str, int], world_size: int, epoch: int) -> None:
    whole = epoch_of(TrainingIndices(**sizes), epoch)
    loaders = [TrainingIndices(**sizes, rank=rank, world_size=world_size) for rank in range(world_size)]
    shares = [epoch_of(loader, epoch) for loader in loaders]
    assert all([n for chunk in loader for n in chunk.sizes] == list(map(len, whole)) for loader in loaders)
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(flat(parts)) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(loaders(), st.none() | st.integers(1, 9))
def test_chunks_end_at_every_pause_and_change_no_batch(sizes: dict[str, int], every: int | None) -> None:
    loader = TrainingIndices(**sizes, pause_every=every)
    assert epoch_of(loader, 1) == epoch_of(TrainingIndices(**sizes | {"batches_per_chunk": 1}), 1)
    chunks = list(loader)
    assert {chunk.epoch for chunk in chunks} == {1}
    assert [chunk.first_step for chunk in chunks] == loader.chunk_starts
    assert len(chunks) == len(loader)
    for chunk in chunks:
        assert len(chunk.batches) <= sizes["batches_per_chunk"]
        last = chunk.first_step + len(chunk.batches) - 1
        assert every is None or chunk.first_step // every == last // every


@given(loaders(), st.integers(0, 200))
def test_a_loader_resumes_at_the_next_batch(sizes: dict[str, int], steps: int) -> None:
    loader = TrainingIndices(**sizes)
    epoch, done = divmod(steps, loader.batches_per_epoch)
    whole = epoch_of(loader, epoch)
    chunks = iter(loader)  # made before the count is set, as Lightning does
    loader.steps_done = steps
    left = list(chunks)
    assert [batch.tolist() for chunk in left for batch in chunk.batches] == whole[done:]
    assert (left[0].epoch, left[0].first_step) == (epoch, done)


@given(st.integers(1, 1000), st.integers(1, 200), st.integers(1, 5))
@settings(max_examples=50)
def test_the_shares_of_the_processes_partition_the_blocks(size: int, block_size: int, world_size: int) -> None:
    def held(rank: int, of: int) -> list[tuple[int, tuple[int, ...]]]:
        blocks = Blocks(size, block_size, rank, of)
        assert len(blocks) == len(list(blocks))
        return [(b.number, tuple(b.indices.tolist())) for b in blocks if len(b) > 0]

    assert len({len(Blocks(size, block_size, rank, world_size)) for rank in range(world_size)}) == 1  # none waits
    whole = held(0, 1)
    assert flat([list(indices) for _, indices in whole]) == list(range(size))
    assert sorted(part for rank in range(world_size) for part in held(rank, world_size)) == whole
