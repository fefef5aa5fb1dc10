"""Selection keeps the most important units across layers, and something everywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optops.compression.pruning.selection import select, select_by_kind

groups = st.lists(
    st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=70), min_size=1, max_size=5
).map(lambda lists: {f"layer_{index}": np.array(values) for index, values in enumerate(lists)})


@given(importance=groups, ratio=st.floats(0, 0.99), block=st.sampled_from([1, 16]))
def test_every_group_keeps_its_most_important_units_in_whole_blocks(importance, ratio, block):
    keep = select(importance, ratio, block)
    assert list(keep) == list(importance)
    for name, indices in keep.items():
        values = importance[name]
        assert indices == sorted(set(indices))
        assert len(indices) % block == 0 or len(indices) == len(values)
        assert len(indices) >= min(block, len(values))
        removed = np.delete(values, indices)
        assert not len(removed) or values[indices].min() >= removed.max()
    total, kept = sum(map(len, importance.values())), sum(map(len, keep.values()))
    floor = sum(min(block, len(values)) for values in importance.values())
    assert kept <= max((1 - ratio) * total + block / 2, floor)
    if ratio == 0:
        assert kept == total


def test_the_ratio_is_met_across_layers_not_in_each():
    importance = {"even": np.ones(4), "uneven": np.array([1.0, 0.01, 0.01, 0.01])}
    assert select(importance, 0.375) == {"even": [0, 1, 2, 3], "uneven": [0]}


def test_the_scale_of_a_layer_does_not_matter():
    importance = {"large": np.array([900.0, 100.0]), "small": np.array([0.9, 0.8])}
    assert select(importance, 0.25) == {"large": [0], "small": [0, 1]}


def test_a_group_whose_units_matter_alike_gives_as_much_as_one_whose_units_differ():
    """What many layers share has nearly the same norm everywhere; it is neither cut to its floor nor left whole."""
    spread = np.linspace(0.5, 1.5, 64)
    keep = select({"shared": np.full(64, 1.0), "first": spread, "second": spread[::-1]}, 0.5, block=8)
    assert all(len(kept) in (24, 32, 40) for kept in keep.values())


def test_what_was_pruned_before_competes_by_what_is_left_of_it():
    once = select({"wide": np.linspace(1, 2, 32), "narrow": np.linspace(1, 2, 16)}, 0.5)
    left = {name: np.linspace(1, 2, size)[once[name]] for name, size in (("wide", 32), ("narrow", 16))}
    assert select(left, 0.5, whole={"wide": 32, "narrow": 16}) == {
        name: list(range(len(indices))) for name, indices in once.items()
    }


def test_a_group_without_any_importance_keeps_its_floor():
    assert select({"dead": np.zeros(4), "alive": np.ones(4)}, 0.5)["dead"] == [0]


def test_heads_and_units_compete_only_with_their_own_kind():
    importance = {
        "encoder_0/self_attention": np.array([0.1, 0.2]),
        "decoder_0/cross_attention": np.array([0.3, 0.1]),
        "encoder_0/feed_forward": np.arange(64.0),
    }
    keep = select_by_kind(importance, heads=0.5, feed_forward=0.5)
    assert keep["encoder_0/self_attention"] == [1]
    assert keep["decoder_0/cross_attention"] == [0]
    assert keep["encoder_0/feed_forward"] == list(range(32, 64))


def test_shares_are_of_what_there_was_before_anything_went():
    importance = {"encoder_0/self_attention": np.arange(3.0), "encoder_0/feed_forward": np.arange(48.0)}
    whole = {"encoder_0/self_attention": 4, "encoder_0/feed_forward": 64}
    keep = select_by_kind(importance, heads=0.5, feed_forward=0.5, whole=whole)
    assert [len(kept) for kept in keep.values()] == [2, 32]


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_an_impossible_ratio_is_refused(ratio):
    with pytest.raises(ValueError, match=f"pruning ratio is {ratio}"):
        select({"layer": np.ones(4)}, ratio)
