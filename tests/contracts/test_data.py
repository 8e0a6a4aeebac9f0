"""The contract of a data set, for every data set of `conf/`."""

import json
import os
from collections import Counter
from functools import cache
from itertools import chain, combinations

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException

from tests.helpers.choices import choices
from tests.helpers.commands import ROOT, composing
from vaelab.data.batches import Block
from vaelab.data.splits import SPLITS
from vaelab.errors import ConfigError, DataError
from vaelab.runs.build import build_data

PIXELS = ("binary", "unit", "levels")


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Give `make(name, seed)`: the data set of a YAML, or a skipped test where its files are absent."""
    own = tmp_path_factory.mktemp("data")
    np.save(own / "mine.npy", np.random.default_rng(0).integers(0, 256, (500, 5, 4)))
    folder = ROOT / os.environ.get("VAELAB_DATA_DIR", "data")

    @cache
    def made(name, seed=0):
        cfg = composing(f"data={name}", f"runtime.data_dir={folder}")
        if "file" in cfg.data and cfg.data.file is None:  # the user's own
            cfg.data.file, cfg.runtime.data_dir = "mine.npy", str(own)
        cfg.data.seed = seed
        return build_data(cfg)

    def make(name, seed=0):
        try:
            return made(name, seed)
        except (DataError, InstantiationException) as error:
            if "could not be fetched" in str(error):
                pytest.skip(f"the files of data={name} are absent")
            raise

    return make


@pytest.fixture(params=choices("data"))
def name(request):
    """Name each data set."""
    return request.param


def images_of(data):
    """Return each split's images as bytes."""
    return {split: [image.tobytes() for image in data.split[split].images] for split in SPLITS}


def test_splits_share_no_image_and_lose_none(make, name):
    first, other = images_of(make(name)), images_of(make(name, 1))
    for one, two in combinations(SPLITS, 2):
        common = set(first[one]) & set(first[two])
        assert len(common) <= len(first[two]) / 100  # some pictures are there twice
    assert Counter(chain(*first.values())) == Counter(chain(*other.values()))


def test_shapes_are_those_that_it_declares(make, name):
    data = make(name)
    for split in SPLITS:
        images, labels = data.split[split].images, data.split[split].labels
        assert images.dtype == np.uint8
        assert images.shape == (len(data.split[split]), *data.event_shape)
        assert images.max() < data.num_levels
        assert labels is None or labels.shape == (len(images),)
    assert len(data.event_shape) == 3


@pytest.mark.parametrize("pixels", PIXELS)
def test_pixels_of_each_kind_are_in_their_range(make, name, pixels):
    data = make(name)
    if data.is_binary and pixels != "binary":
        with pytest.raises(ConfigError, match="type decoder=bernoulli"):
            data.serve(pixels)
        return
    data.serve(pixels)
    x = data.draw_block("test", Block(0, torch.arange(50)))
    assert x.shape == (50, *data.event_shape)
    assert x.dtype == torch.float32
    assert x.max() <= data.max_pixel
    if pixels == "unit":
        assert x.min() > 0
        assert x.max() < 1
    else:
        allowed = torch.arange(2 if pixels == "binary" else data.num_levels)
        assert torch.isin(x, allowed.float()).all()


def test_record_is_plain_and_the_same_again(make, name):
    data = make(name)
    pixels = "binary" if data.is_binary else "unit"
    data.serve(pixels)
    record = data.record()
    assert json.loads(json.dumps(record)) == record == data.record()
    assert record["sizes"] == {split: len(data.split[split]) for split in SPLITS}
    assert record["event_shape"] == list(data.event_shape)
    assert record["sha256"].keys() == record["sizes"].keys()
    assert (record["pixels"], record["num_levels"], record["seed"]) == (pixels, data.num_levels, 0)
