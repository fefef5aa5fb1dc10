"""A BERT's plan for int8 says in which range each of its products finds what it takes, every time that it runs."""

import numpy as np
import pytest

from optops.compression.quantization import plans
from optops.graph.bert_calibration import CALIBRATED, make_plan
from optops.models.base import load_architecture
from optops.models.bert.config import BertConfig
from optops.models.keras import keras, tf

SIZES = {"vocabulary": 60, "classes": 3, "width": 32, "heads": 4, "feed_forward": 64, "layers": 2, "max_positions": 24}


@pytest.fixture
def saved(tmp_path):
    def save(change=lambda model: None, **sizes):
        keras.utils.set_random_seed(5)
        architecture = load_architecture("bert")
        model = architecture.build(BertConfig.uniform(**{**SIZES, **sizes}).to_json())
        change(model)
        architecture.save(model, tmp_path / "trainable", {})
        return tmp_path / "trainable", model

    return save


def texts(count, seed=1):
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield {"ids": np.array([[2, *random.integers(5, 60, random.integers(1, 20)), 3]], np.int32)}


def test_a_plan_has_the_range_of_what_each_product_takes(saved):
    folder, model = saved()
    calls = list(texts(12))
    plan = make_plan(folder, "int8", lambda: iter(calls))
    blocks = [
        f"encoder_{index}/{name}/kernel"
        for index in range(2)
        for name in ("self_attention/query", "self_attention/output", "feed_forward/expand", "feed_forward/contract")
    ]
    assert set(plan.ranges) == set(plan.range_notes) == {*blocks, "pooler/kernel", "classifier/kernel"}
    found = [call for number, call in enumerate(calls, 1) if number % 4]
    embedded = np.concatenate([model.embeddings(tf.constant(call["ids"])).numpy().ravel() for call in found])
    low, high = plan.ranges["encoder_0/self_attention/query/kernel"]
    assert embedded.min() * 1.01 <= low <= np.quantile(embedded, 0.01)
    assert np.quantile(embedded, 0.99) <= high <= embedded.max() * 1.01
    low, high = plan.ranges["classifier/kernel"]
    assert -1 <= low < 0 < high <= 1  # behind tanh


def test_what_the_weights_decide_stays_as_it_is_without_calibration(saved):
    folder, _ = saved()
    whole, without = make_plan(folder, "int8", lambda: texts(4)), make_plan(folder, "int8")
    assert without == plans.make_plan(folder, "int8")
    assert whole.parts == without.parts
    assert make_plan(folder, "bf16", lambda: texts(4)) == plans.make_plan(folder, "bf16")


def test_a_layer_that_runs_several_times_has_a_range_for_each_time(saved):
    folder, _ = saved(layers=3, groups=1, embedding_width=16)
    ranges = make_plan(folder, "int8", lambda: texts(8)).ranges
    times = [ranges[f"encoder_0/feed_forward/expand/kernel{again}"] for again in ("", "_2", "_3")]
    assert len(set(times)) == 3


def test_no_more_texts_are_read_than_ranges_need(saved):
    folder, _ = saved()
    taken = []
    make_plan(folder, "int8", lambda: (taken.append(call) or call for call in texts(10 * CALIBRATED)))
    assert len(taken) == CALIBRATED


def test_calibration_without_texts_is_refused(saved):
    folder, _ = saved()
    with pytest.raises(ValueError, match="calibration: there are no calls"):
        make_plan(folder, "int8", lambda: iter(()))


def test_an_activation_that_is_not_finite_is_refused_by_the_name_of_its_product(saved):
    def spoil(model):
        norm = model.encoder_layers[1].self_attention_norm
        norm.gamma.assign(tf.fill(norm.gamma.shape, np.float32(3e38)))

    folder, _ = saved(spoil)
    with pytest.raises(ValueError, match=r"encoder_1/feed_forward/expand/kernel.* NaN or infinite"):
        make_plan(folder, "int8", lambda: texts(4))
