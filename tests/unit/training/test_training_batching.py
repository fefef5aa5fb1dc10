"""Batches of pairs: every pair once, within the budget, the same for the same seed and epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optops.models.training import PairBatches

ids = st.lists(st.integers(3, 99), max_size=12)
pairs = st.lists(st.tuples(ids, ids), min_size=1, max_size=60)


def rows(batch):
    """Returns the pairs of a batch, read back from the arrays."""
    for source, *others in zip(batch["source"], batch["target"], batch["labels"], strict=True):
        target, labels = [row[row != 0].tolist() for row in others]
        assert target[0] == 1
        assert labels[-1] == 2
        assert target[1:] == labels[:-1]
        yield tuple(source[source != 0].tolist()), tuple(labels[:-1])


@settings(max_examples=60)
@given(pairs=pairs, budget=st.integers(16, 80), multiple=st.sampled_from([1, 4, 8]), seed=st.integers(0, 9))
def test_every_pair_comes_once_within_the_budget_and_in_the_same_order_again(pairs, budget, multiple, seed):
    sources, targets = [list(side) for side in zip(*pairs, strict=True)]
    batches = PairBatches(sources, targets, batch_tokens=budget, seed=seed, multiple=multiple)
    for epoch in (1, 2):
        made, again = list(batches(epoch)), list(batches(epoch))
        assert len(made) == len(batches(epoch))
        seen = [pair for batch in made for pair in rows(batch)]
        assert sorted(seen) == sorted((tuple(source), tuple(target)) for source, target in pairs)
        for batch, same in zip(made, again, strict=True):
            for name, array in batch.items():
                assert array.dtype == np.int32
                assert array.shape[1] % multiple == 0
                assert array.size <= budget
                np.testing.assert_array_equal(array, same[name])


def test_epochs_and_seeds_differ():
    sources = [[index + 4] for index in range(50)]
    orders = {
        tuple(np.concatenate([batch["source"][:, 0] for batch in PairBatches(sources, sources, 16, seed)(epoch)]))
        for seed in (1, 2)
        for epoch in (1, 2)
    }
    assert len(orders) == 4


def test_little_is_padding():
    random = np.random.default_rng(0)
    sources = [[5] * int(length) for length in random.integers(3, 40, 2000)]
    batches = list(PairBatches(sources, [source[1:] for source in sources], 1024, 1)(1))
    assert np.mean([np.mean(batch["source"] == 0) for batch in batches]) < 0.05


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        ([[5]], [], "1 sources but 0 targets"),
        ([], [], "there are no pairs"),
        ([[5], [5] * 33], [[5], [5]], "pair 1 has 33 tokens.*raise batch_tokens"),
        ([[5]], [[5] * 32], "pair 0 has 33 tokens"),
    ],
)
def test_impossible_pairs_are_refused(sources, targets, message):
    with pytest.raises(ValueError, match=message):
        PairBatches(sources, targets, batch_tokens=32, seed=1)
