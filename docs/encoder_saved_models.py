"""Writes SavedModels of small encoders with random weights, to try the graph optimiser on.

They come from `transformers` 4, the last with TensorFlow, or from KerasHub; optops needs neither. In an environment of
its own:

    uv venv models && uv pip install --python models "transformers<5" keras-hub "tensorflow==2.21.*" tf-keras
    models/bin/python docs/encoder_saved_models.py transformers FOLDER
    models/bin/python docs/encoder_saved_models.py keras_hub FOLDER
    optops optimize FOLDER/bert -o faster
"""

import os
import sys
from collections.abc import Iterator
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # for transformers
os.environ["KERAS_BACKEND"] = "tensorflow"  # for KerasHub

import tensorflow as tf


def of_transformers() -> Iterator[tuple[str, Any]]:
    """Gives models of `transformers` by name."""
    import transformers as t

    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    small = {**sizes, "vocab_size": 120, "max_position_embeddings": 64}
    yield "bert", t.TFBertModel(t.BertConfig(**small))
    yield "bert_classifier", t.TFBertForSequenceClassification(t.BertConfig(**small, num_labels=3))
    yield "albert", t.TFAlbertModel(t.AlbertConfig(**small, embedding_size=32))
    yield "roberta", t.TFRobertaModel(t.RobertaConfig(**small))
    yield "electra", t.TFElectraModel(t.ElectraConfig(**small, embedding_size=32))
    distilbert = t.DistilBertConfig(dim=64, n_layers=3, n_heads=4, hidden_dim=128, vocab_size=120)
    yield "distilbert", t.TFDistilBertModel(distilbert)


def of_keras_hub() -> Iterator[tuple[str, Any]]:
    """Gives models of KerasHub by name."""
    from keras_hub import models as m

    layers = {"num_layers": 3, "num_heads": 4, "hidden_dim": 64, "intermediate_dim": 128, "max_sequence_length": 64}
    small = {**layers, "vocabulary_size": 120}
    yield "bert", m.BertBackbone(**small)
    yield "bert_classifier", m.BertTextClassifier(m.BertBackbone(**small), num_classes=3, preprocessor=None)
    yield "albert", m.AlbertBackbone(**small, embedding_dim=32)
    yield "roberta", m.RobertaBackbone(**small)
    yield "xlm_roberta", m.XLMRobertaBackbone(**small)
    yield "electra", m.ElectraBackbone(**layers, vocab_size=120, embedding_dim=32)
    yield "distilbert", m.DistilBertBackbone(**small)
    yield "deberta_v3", m.DebertaV3Backbone(**small)


def save(model: Any, folder: str) -> None:
    """Writes a model of `transformers` with ids and mask as its inputs."""
    specs = [tf.TensorSpec([None, None], tf.int32, name=each) for each in ("input_ids", "attention_mask")]

    @tf.function(input_signature=specs)
    def serve(ids: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the tensors among the outputs."""
        found = model({"input_ids": ids, "attention_mask": mask}, training=False)
        return {key: value for key, value in found.items() if isinstance(value, tf.Tensor)}

    tf.saved_model.save(model, folder, signatures={"serving_default": serve})


if __name__ == "__main__":
    library, folder = sys.argv[1:]
    if library == "transformers":
        for name, model in of_transformers():
            save(model, f"{folder}/{name}")
    else:
        for name, model in of_keras_hub():
            model.export(f"{folder}/{name}")
