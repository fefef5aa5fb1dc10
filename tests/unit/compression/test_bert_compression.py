"""Students and pruned forms of BERT and ALBERT: what they learn from, and what is taken out of them."""

import re
from pathlib import Path

import numpy as np
import pytest

from optops.compression import distill, prune
from optops.compression.distillation.features import LastLayerRelations, LayerByLayer
from optops.compression.distillation.losses import ClassDistillationLoss, DistillationSettings
from optops.compression.pruning.bert import drop_layers, prune_steps
from optops.compression.pruning.importance import class_losses, importance
from optops.compression.pruning.steps import PruningData
from optops.models.bert.config import BertConfig
from optops.models.bert.model import Bert
from optops.models.keras import keras, tf
from optops.models.training import TrainingSettings, fit
from optops.models.training.batching import TextBatches
from optops.models.training.losses import class_loss
from optops.workloads.text_classification.settings import TextPrune

SIZES = {"vocabulary": 40, "classes": 3, "width": 16, "heads": 2, "feed_forward": 64, "layers": 4, "max_positions": 12}
ALBERT = {"groups": 1, "embedding_width": 8}
BATCH = {
    "ids": np.array([[2, 9, 8, 7, 3], [2, 5, 3, 0, 0], [2, 30, 31, 3, 0]], np.int32),
    "labels": np.array([0, 2, 1], np.int32),
}
TENSORS = {name: tf.constant(array) for name, array in BATCH.items()}


def make(seed=1, **changes):
    keras.utils.set_random_seed(seed)
    return Bert(BertConfig.uniform(**{**SIZES, "dropout": 0.0, **changes}))


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def test_the_loss_is_that_of_the_formula():
    teacher, student = make(1), make(2, layers=2)
    loss, parts = ClassDistillationLoss(teacher, student, DistillationSettings(alpha=0.3, temperature=2.0), 0.1)(
        student, TENSORS, 0.0
    )
    mine, theirs = (np.float64(model(TENSORS).numpy()) for model in (student, teacher))
    softened = log_softmax(theirs / 2)
    soft = 4 * (np.exp(softened) * (softened - log_softmax(mine / 2))).sum(axis=1).mean()
    targets = 0.9 * np.eye(3)[BATCH["labels"]] + 0.1 / 3
    hard = -(targets * log_softmax(mine)).sum(axis=1).mean()
    assert float(parts["soft"]) == pytest.approx(soft, rel=1e-4)
    assert float(parts["hard"]) == pytest.approx(hard, rel=1e-4)
    assert float(loss) == pytest.approx(0.3 * soft + 0.7 * hard, rel=1e-4)


@pytest.mark.parametrize("kind", [LayerByLayer, LastLayerRelations])
@pytest.mark.parametrize("changes", [{}, ALBERT], ids=["bert", "albert"])
def test_features_of_a_student_equal_to_its_teacher_cost_nothing_and_others_do(kind, changes):
    teacher, same, other = make(1, **changes), make(1, **changes), make(2, **{**changes, "layers": 2})
    ids = {"source": TENSORS["ids"]}
    seen = teacher.features(TENSORS)
    assert float(kind(teacher.config, same.config)(same.features(TENSORS), seen, ids)) == pytest.approx(0, abs=1e-6)
    assert float(kind(teacher.config, other.config)(other.features(TENSORS), seen, ids)) > 1e-3


def test_hidden_states_of_another_width_go_through_a_projection_that_learns():
    teacher, student = make(1), make(2, width=8)
    loss = ClassDistillationLoss(teacher, student, DistillationSettings(beta=1.0), 0.0)
    assert [tuple(variable.shape) for variable in loss.variables] == [(8, 16)]
    with tf.GradientTape() as tape:
        value, parts = loss(student, TENSORS, 0.0)
    assert float(parts["features"]) > 0
    gradients = tape.gradient(value, [loss.variables[0], *teacher.trainable_variables])
    assert np.abs(gradients[0].numpy()).max() > 0
    assert all(gradient is None for gradient in gradients[1:])


def test_relations_of_unequal_heads_are_refused():
    with pytest.raises(ValueError, match="encoder_1/self_attention has 4 heads, the teacher's encoder_3"):
        LastLayerRelations(make(1).config, make(2, layers=2, heads=4).config)


@pytest.mark.parametrize("changes", [{}, ALBERT], ids=["bert", "albert"])
def test_importance_is_the_slope_of_each_examples_loss_when_a_unit_fades(changes):
    model = make(3, **changes)
    found = importance(model, [BATCH], class_losses)
    step = 1e-2
    for name, unit in (("encoder_0/self_attention", 1), ("encoder_0/feed_forward", 5)):
        slopes = []
        for sign in (1, -1):
            gates = np.ones(model.config.units()[name], np.float32)
            gates[unit] += sign * step
            slopes.append(class_losses(model, TENSORS, {name: tf.constant(gates)}).numpy())
        expected = np.abs((slopes[0] - slopes[1]) / (2 * step)).mean()
        assert found[name][unit] == pytest.approx(expected, rel=0.03, abs=2e-5)


@pytest.mark.parametrize("changes", [{}, ALBERT], ids=["bert", "albert"])
def test_pruning_steps_get_ever_smaller_and_leave_the_model_alone(changes):
    model = make(4, **changes)
    before = model(TENSORS).numpy()
    lines: list[str] = []
    data = PruningData([BATCH], lambda: [BATCH], class_loss(0.0))
    steps = list(prune_steps(model, TextPrune(ratios=(0.25, 0.5), layers=1), data, lines.append))
    assert [step.ratio for step in steps] == [0.25, 0.5]
    assert model.count_params() > steps[0].model.count_params() > steps[1].model.count_params()
    assert {step.model.config.depth for step in steps} == {3}
    units = steps[1].model.config.units()
    kept = sum(count for name, count in units.items() if name.endswith("feed_forward"))
    assert kept == 0.5 * sum(64 for name in units if name.endswith("feed_forward"))
    assert all(np.isfinite(step.model(TENSORS)).all() for step in steps)
    np.testing.assert_array_equal(model(TENSORS), before)
    assert lines[0] == "3 of 4 layers are left"


def test_a_share_is_met_however_many_steps_lead_there():
    ratios = (0.1, 0.2, 0.3, 0.4, 0.5)
    data = PruningData([BATCH], lambda: [BATCH], class_loss(0.0))
    steps = list(prune_steps(make(6, heads=4, layers=2), TextPrune(ratios=ratios, layers=0), data, lambda line: None))
    assert [step.ratio for step in steps] == [0.1, 0.2, 0.4, 0.5], "at 0.3 nothing more goes"
    units = steps[-1].model.config.units()
    for kind, whole in (("attention", 8), ("feed_forward", 128)):
        assert sum(count for name, count in units.items() if name.endswith(kind)) == whole / 2


def test_where_nothing_can_go_there_is_no_step():
    data = PruningData([BATCH], lambda: [BATCH], class_loss(0.0))
    model, lines = make(7, heads=1, feed_forward=16, width=8), []
    assert list(prune_steps(model, TextPrune(ratios=(0.3, 0.5), layers=0), data, lines.append)) == []
    assert len(lines) == 2


def test_the_layer_that_is_missed_least_goes():
    model = make(5)
    # A layer whose blocks add nothing can be spared at no cost but that of its norms, which change nothing either.
    for weight in model.encoder_layers[2].weights:
        if "/output/" in weight.name or "/contract/" in weight.name:
            weight.assign(tf.zeros_like(weight))
    smaller = drop_layers(model, 1, [BATCH])
    np.testing.assert_allclose(smaller(TENSORS), model(TENSORS), atol=1e-4)


def test_one_layer_must_stay():
    with pytest.raises(ValueError, match="4 of 4 layers to leave out"):
        drop_layers(make(), 4, [BATCH])


def test_the_example_of_the_docs_runs_and_the_smaller_models_learn(tmp_path):
    page = Path(__file__).parents[3] / "docs" / "text_classification.md"
    code = re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL).group(1)
    random = np.random.default_rng(1)
    # Which of three words a text holds is its class.
    labels = random.integers(0, 3, 400).tolist()
    texts = [[2, *random.permutation([5 + label, *random.integers(8, 40, 4)]).tolist(), 3] for label in labels]
    teacher = make(6, pooling="mean", layers=3)
    batches = TextBatches(texts[:300], labels[:300], 128, 1)
    settings = TrainingSettings(epochs=8, learning_rate=5e-3, warmup_steps=10, replicas=1, average_checkpoints=1)
    names = {"teacher": teacher, "texts": texts[:300], "labels": labels[:300]}
    names |= {"held_out_texts": texts[300:], "held_out_labels": labels[300:]}
    fit(teacher, batches=batches, loss=class_loss(0.0), validate=lambda _: 0.0, settings=settings, checkpoints=tmp_path)
    exec(code, names)
    accuracy, student, small = (names[name] for name in ("accuracy", "student", "small"))
    assert student.config.depth == 2
    assert small.config.units()["encoder_0/self_attention"] + small.config.units()["encoder_1/self_attention"] == 2
    assert [accuracy(model) > 0.85 for model in (teacher, student, small)] == [True] * 3


def test_what_does_not_go_with_a_bert_is_refused():
    settings = TrainingSettings(epochs=1)
    common = {"batches": lambda _: [BATCH], "validate": lambda _: 0.0, "settings": settings}
    with pytest.raises(ValueError, match="a Bert has a loss of its own"):
        distill(make(1), make(2), **common, loss=class_loss(0.0))
    with pytest.raises(ValueError, match="a Bert learns from a Bert, not Sequential"):
        distill(keras.Sequential(), make(2), **common)
    with pytest.raises(ValueError, match="a Bert takes `heads` and `feed_forward`, and no `ratio`"):
        prune(make(1), ratio=0.5)
    with pytest.raises(ValueError, match="no batches to measure importance on"):
        prune(make(1), heads=0.5, feed_forward=0.5)
