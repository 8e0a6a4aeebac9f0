import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaelab.randomness import generator, seed_draws, stream

KEYS = st.lists(st.integers(0, 2**40), min_size=1, max_size=4)


@given(key=KEYS, place=st.integers(0, 3), other=st.integers(0, 2**40))
def test_keys_that_differ_in_one_place_have_other_seeds(key, place, other):
    place %= len(key)
    changed = [*key[:place], other, *key[place + 1 :]]
    assert (stream("train", *key) == stream("train", *changed)) == (key == changed)


def test_stages_draw_different_numbers():
    draws = [torch.rand(1, generator=generator(stage, 0)).item() for stage in ("split", "shuffle", "binarize")]
    assert len(set(draws)) == 3


def test_draws_depend_on_the_key_alone():
    seed_draws("cpu", "train", 1, 2, 3)
    first = torch.rand(5)
    torch.rand(100)
    seed_draws("cpu", "train", 1, 2, 3)
    assert torch.equal(torch.rand(5), first)
    seed_draws("cpu", "train", 1, 2, 4)
    assert not torch.equal(torch.rand(5), first)


def test_neighbouring_keys_are_uncorrelated():
    draws = torch.stack([torch.rand(1000, generator=generator("train", 0, 0, step)) for step in range(20)])
    correlations = torch.corrcoef(draws).fill_diagonal_(0)
    assert correlations.abs().max() < 5 / 1000**0.5


def test_each_seed_of_64_bits_has_its_own_draws():
    assert len({stream("train", seed) for seed in (0, 1, 2**32, 2**63, 2**64 - 1)}) == 5
    for seed in (2**64, 2**64 + 1, -1):
        with pytest.raises(ValueError, match=f"from 0 to 2\\^64 - 1, found {seed}"):
            stream("train", seed)
