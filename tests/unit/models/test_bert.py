"""BERT and ALBERT: their numbers, their published checkpoints, their smaller forms, and guessing hidden tokens."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optops.models.base import load_architecture
from optops.models.bert.checkpoint import load_checkpoint
from optops.models.bert.config import BertConfig
from optops.models.bert.masked import LEAST_HIDDEN, MaskedBatches, MaskedTokenLoss, held_out_batches
from optops.models.bert.model import Bert
from optops.models.bert.slicing import from_teacher, keep_layers, shrink
from optops.models.keras import keras, tf
from optops.models.training import TrainingSettings, fit
from optops.models.training.batching import TextBatches
from optops.testing import check_architecture

SIZES = {"vocabulary": 40, "classes": 3, "width": 16, "heads": 2, "feed_forward": 32, "layers": 3, "max_positions": 12}
ALBERT = {"groups": 1, "embedding_width": 8}
IDS = tf.constant([[2, 9, 8, 7, 3], [2, 5, 3, 0, 0]])


def make(seed=1, **changes):
    keras.utils.set_random_seed(seed)
    return Bert(BertConfig.uniform(**{**SIZES, "dropout": 0.0, **changes}))


@pytest.mark.parametrize("changes", [{}, ALBERT], ids=["bert", "albert"])
def test_the_architecture_conforms(changes, tmp_path):
    config = BertConfig.uniform(**{**SIZES, **changes}).to_json()
    check_architecture(load_architecture("bert"), config, tmp_path)


def test_shared_layers_and_factorised_embeddings_have_the_parameters_of_the_paper():
    # Lan et al. 2020, table 1: ALBERT-base has 12M parameters.
    base = {"vocabulary": 30_000, "classes": 2, "width": 768, "heads": 12, "feed_forward": 3072, "layers": 12}
    albert = Bert(BertConfig.uniform(**base, groups=1, embedding_width=128))
    assert albert.count_params() == pytest.approx(12e6, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "3 heads do not divide the width 16"),
        ({"groups": 2}, "2 groups do not divide 3 layers"),
        ({"classes": 1}, "classes is 1"),
        ({"separator": 40}, "separator is 40"),
        ({"activation": "tanh"}, "activation is 'tanh'; choose one of gelu, gelu_tanh, relu"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        BertConfig.uniform(**{**SIZES, **changes})


@pytest.mark.parametrize("changes", [{}, ALBERT], ids=["bert", "albert"])
def test_what_is_kept_computes_what_the_model_does_with_gates_of_zero(changes):
    model = make(**changes)
    keep = {"encoder_0/self_attention": [1], "encoder_0/feed_forward": [3, 0, 17]}
    gates = {
        name: tf.constant([float(unit in kept) for unit in range(model.config.units()[name])])
        for name, kept in keep.items()
    }
    small = shrink(model, keep)
    expected = model.features({"ids": IDS}, gates=gates).logits
    np.testing.assert_allclose(small({"ids": IDS}), expected, atol=1e-5)
    assert small.count_params() < model.count_params()


def test_a_student_of_the_same_sizes_is_its_teacher_and_a_shallower_one_has_its_first_and_last_layer():
    teacher = make()
    same = from_teacher(teacher, teacher.config)
    np.testing.assert_array_equal(same({"ids": IDS}), teacher({"ids": IDS}))
    student = from_teacher(teacher, BertConfig.uniform(**{**SIZES, "layers": 2}))
    last = {w.name: w.numpy() for w in teacher.weights}["bert/encoder_2/feed_forward/expand/kernel:0"]
    found = {w.name: w.numpy() for w in student.weights}["bert/encoder_1/feed_forward/expand/kernel:0"]
    np.testing.assert_array_equal(found, last)


def test_a_shared_layer_runs_less_often_in_the_student():
    teacher = make(**ALBERT)
    student = from_teacher(teacher, BertConfig.uniform(**{**SIZES, **ALBERT, "layers": 1}))
    assert student.config.depth == 1
    first = teacher.features({"ids": IDS}).hidden["encoder_0"]
    np.testing.assert_allclose(student.features({"ids": IDS}).hidden["encoder_0"], first, atol=1e-6)


def test_layers_that_are_not_there_can_not_be_kept():
    with pytest.raises(ValueError, match=r"layers 0 to 2; keep some, not \[3\]"):
        keep_layers(make(), [3])


def published(model, albert):
    """Returns the variables of a checkpoint as google-research names them, written by hand from their code."""
    arrays = {weight.name.removesuffix(":0").removeprefix("bert/"): weight.numpy() for weight in model.weights}
    found = {
        "bert/embeddings/word_embeddings": arrays["embeddings/token"],
        "bert/embeddings/position_embeddings": np.pad(arrays["embeddings/position"], [[0, 20], [0, 0]]),
        "bert/embeddings/token_type_embeddings": arrays["embeddings/segment"],
        "bert/embeddings/LayerNorm/gamma": arrays["embeddings/norm/gamma"],
        "bert/embeddings/LayerNorm/beta": arrays["embeddings/norm/beta"],
        "bert/pooler/dense/kernel": arrays["pooler/kernel"],
        "bert/pooler/dense/bias": arrays["pooler/bias"],
        "cls/predictions/output_bias": np.zeros(40, np.float32),
        "global_step": np.array(7, np.int64),
    }
    if albert:
        found["bert/encoder/embedding_hidden_mapping_in/kernel"] = arrays["embeddings/projection/kernel"]
        found["bert/encoder/embedding_hidden_mapping_in/bias"] = arrays["embeddings/projection/bias"]
    for index in range(len(model.config.encoder)):
        if albert:
            layer = f"bert/encoder/transformer/group_{index}/inner_group_0"
            attention, units = (
                f"{layer}/attention_1",
                (f"{layer}/ffn_1/intermediate", f"{layer}/ffn_1/intermediate/output"),
            )
            norms = f"{layer}/LayerNorm", f"{layer}/LayerNorm_1"
        else:
            layer = f"bert/encoder/layer_{index}"
            attention, units = f"{layer}/attention", (f"{layer}/intermediate", f"{layer}/output")
            norms = f"{layer}/attention/output/LayerNorm", f"{layer}/output/LayerNorm"
        ours = f"encoder_{index}"
        for kind in ("kernel", "bias"):
            for product in ("query", "key", "value"):
                found[f"{attention}/self/{product}/{kind}"] = arrays[f"{ours}/self_attention/{product}/{kind}"]
            found[f"{attention}/output/dense/{kind}"] = arrays[f"{ours}/self_attention/output/{kind}"]
            found[f"{units[0]}/dense/{kind}"] = arrays[f"{ours}/feed_forward/expand/{kind}"]
            found[f"{units[1]}/dense/{kind}"] = arrays[f"{ours}/feed_forward/contract/{kind}"]
        for kind in ("gamma", "beta"):
            found[f"{norms[0]}/{kind}"] = arrays[f"{ours}/self_attention_norm/{kind}"]
            found[f"{norms[1]}/{kind}"] = arrays[f"{ours}/feed_forward_norm/{kind}"]
    return found


def write_checkpoint(variables, folder):
    """Writes a checkpoint as TensorFlow 1 did, and returns its prefix."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [tf.compat.v1.get_variable(name, initializer=array) for name, array in variables.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(made)
        saver.save(session, str(folder / "bert_model.ckpt"), write_meta_graph=False)
    return folder / "bert_model.ckpt"


@pytest.mark.parametrize("changes", [{}, ALBERT], ids=["bert", "albert"])
def test_a_published_checkpoint_gives_the_states_of_the_model_it_was_made_from(changes, tmp_path):
    origin, model = make(1, **changes), make(2, **changes)
    classifier = model.classifier.kernel.numpy()
    load_checkpoint(model, write_checkpoint(published(origin, bool(changes)), tmp_path))
    np.testing.assert_allclose(model.encode(IDS), origin.encode(IDS), atol=1e-6)
    np.testing.assert_array_equal(model.classifier.kernel, classifier)


def test_a_checkpoint_that_does_not_fit_is_refused_by_name(tmp_path):
    variables = published(make(), False)
    without = {name: array for name, array in variables.items() if "layer_1/intermediate" not in name}
    (tmp_path / "missing").mkdir()
    with pytest.raises(ValueError, match="has no bert/encoder/layer_1/intermediate/dense/bias, bert/encoder/layer_1"):
        load_checkpoint(make(), write_checkpoint(without, tmp_path / "missing"))
    prefix = write_checkpoint(variables, tmp_path)
    with pytest.raises(ValueError, match=r"word_embeddings \[40, 16\] where `model` has \[50, 16\]"):
        load_checkpoint(make(vocabulary=50), prefix)
    with pytest.raises(ValueError, match=r"more layers than the 2 of `model` \(bert/encoder/layer_2/"):
        load_checkpoint(make(layers=2), prefix)
    with pytest.raises(ValueError, match=r"no_model\.ckpt\.index does not exist"):
        load_checkpoint(make(), tmp_path / "no_model.ckpt")


@pytest.mark.parametrize(
    ("file", "changes", "key", "size"),
    [("bert_config.json", {}, "layers", 3), ("albert_config.json", ALBERT, "groups", 1)],
)
def test_sizes_that_no_variable_tells_are_those_of_the_config_beside_the_checkpoint(file, changes, key, size, tmp_path):
    model = make(**changes)
    prefix = write_checkpoint(published(model, bool(changes)), tmp_path)
    sizes = {"num_attention_heads": 2, "num_hidden_layers": 3, f"num_hidden_{key}": size, "hidden_act": "gelu"}
    (tmp_path / file).write_text(json.dumps(sizes))
    load_checkpoint(model, prefix)
    for name, ours, theirs in (("num_attention_heads", "heads", 4), (f"num_hidden_{key}", key, 12)):
        (tmp_path / file).write_text(json.dumps({**sizes, name: theirs}))
        with pytest.raises(ValueError, match=rf"model\.{ours} is \d, .* {name} {theirs}; write `{ours}: {theirs}`"):
            load_checkpoint(model, prefix)
    (tmp_path / file).write_text("[]no")
    with pytest.raises(ValueError, match="is no JSON object"):
        load_checkpoint(model, prefix)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (
            "gelu_tanh",
            "relu",
            r"activation is gelu_tanh, .*albert_config.json has hidden_act relu; write `activation: rel",
        ),
        ("relu", "gelu", r"activation is relu, .* has hidden_act gelu; write `activation: gelu_tanh`"),
        ("relu", "swish", r"has hidden_act 'swish'; this BERT has gelu, gelu_tanh, relu"),
        ("gelu_tanh", None, r"has hidden_act None"),
        ("gelu_tanh", ["gelu"], r"has hidden_act \['gelu'\]"),
    ],
)
def test_another_activation_than_that_of_the_checkpoint_is_refused_by_name(ours, theirs, message, tmp_path):
    model = make(**ALBERT, activation=ours)
    prefix = write_checkpoint(published(model, True), tmp_path)
    config = tmp_path / "albert_config.json"
    config.write_text(json.dumps({"hidden_act": theirs}))
    with pytest.raises(ValueError, match=message):
        load_checkpoint(model, prefix)
    for same in ("{}", json.dumps({"hidden_act": ours.partition("_")[0]})):
        config.write_text(same)
        load_checkpoint(model, prefix)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    prefix = write_checkpoint(published(make(), False), tmp_path)
    prefix.with_name(prefix.name + ".index").write_bytes(b"not a table")
    with pytest.raises(ValueError, match="can not be read"):
        load_checkpoint(make(), prefix)


TEXTS = [[2, *ids, 3] for ids in np.random.default_rng(0).integers(5, 40, (60, 6)).tolist()]
MASK, SPECIALS = 4, frozenset({0, 2, 3, 4})


def masked(share=0.3, seed=1):
    texts = TextBatches(TEXTS, [0] * len(TEXTS), batch_tokens=64, seed=seed)
    return MaskedBatches(texts, vocabulary=40, specials=SPECIALS, mask=MASK, share=share)


@settings(max_examples=20)
@given(share=st.floats(0.05, 0.9), epoch=st.integers(1, 5), seed=st.integers(0, 9))
def test_only_tokens_of_the_text_are_guessed_and_the_others_stay(share, epoch, seed):
    originals = TextBatches(TEXTS, [0] * len(TEXTS), batch_tokens=64, seed=seed)(epoch)
    for batch, original in zip(masked(share, seed)(epoch), originals, strict=True):
        chosen = batch["labels"] != 0
        np.testing.assert_array_equal(batch["ids"][~chosen], original["ids"][~chosen])
        np.testing.assert_array_equal(batch["labels"][chosen], original["ids"][chosen])
        assert not np.isin(batch["labels"][chosen], list(SPECIALS)).any()


def test_of_the_tokens_to_be_guessed_most_are_hidden():
    batches = list(masked(0.5)(1))
    chosen = np.concatenate([batch["labels"][batch["labels"] != 0] for batch in batches])
    read = np.concatenate([batch["ids"][batch["labels"] != 0] for batch in batches])
    assert len(chosen) == pytest.approx(0.5 * 60 * 6, rel=0.15)
    assert (read == MASK).mean() == pytest.approx(0.8, abs=0.1)
    assert (read == chosen).mean() == pytest.approx(0.1, abs=0.08)


@pytest.mark.parametrize("seed", range(5))
def test_of_few_texts_enough_tokens_are_hidden_to_judge_by(seed):
    few = MaskedBatches(TextBatches([[2, 9, 8, 3]], [0], batch_tokens=64, seed=seed), 40, SPECIALS, MASK, 0.3)
    hidden = sum(int((batch["labels"] != 0).sum()) for batch in held_out_batches(few))
    assert 20 < hidden < LEAST_HIDDEN
    many = masked(0.5, seed)
    for batch, other in zip(held_out_batches(many), many(1), strict=True):
        np.testing.assert_array_equal(batch["labels"], other["labels"])


def test_texts_without_a_token_that_can_be_hidden_can_not_be_judged_by():
    empty = MaskedBatches(TextBatches([[2, 3]], [0], batch_tokens=64, seed=1), 40, SPECIALS, MASK, 0.3)
    with pytest.raises(ValueError, match="no token of the held-out texts is hidden"):
        held_out_batches(empty)


def test_guessing_is_learnt_and_trains_the_encoder(tmp_path):
    # All tokens of a text are the same: hidden ones can be told from the others.
    texts = [[2, *[5 + number] * 8, 3] for number in range(30)] * 8
    data = MaskedBatches(TextBatches(texts, [0] * len(texts), 256, 1), 40, SPECIALS, MASK, 0.2)
    model = make(layers=1, width=32, feed_forward=64)
    loss = MaskedTokenLoss(model, seed=1)
    before = {weight.name: weight.numpy() for weight in model.weights}
    validate = loss.held_out(list(data(99)))
    start = validate(model)
    history = fit(
        model,
        batches=data,
        loss=loss,
        validate=validate,
        settings=TrainingSettings(epochs=10, learning_rate=1e-2, warmup_steps=10, average_checkpoints=1, replicas=1),
        checkpoints=tmp_path,
    )
    assert history.validation > 0.5 * start
    changed = [w.name for w in model.weights if not np.array_equal(before[w.name], w.numpy())]
    assert "bert/embeddings/token:0" in changed
    assert "bert/encoder_0/feed_forward/expand/kernel:0" in changed
    assert "bert/classifier/kernel:0" not in changed
