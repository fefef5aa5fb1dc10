"""Writes SavedModels of encoders with random weights, small or as large as they were published.

They come from `transformers` 4, the last with TensorFlow, or from KerasHub; optops needs neither. In an environment of
its own:

    uv venv models && uv pip install --python models "transformers<5" keras-hub "tensorflow==2.21.*" tf-keras
    models/bin/python docs/encoder_saved_models.py transformers FOLDER
    models/bin/python docs/encoder_saved_models.py keras_hub FOLDER
    models/bin/python docs/encoder_saved_models.py transformers FOLDER --size base
    optops optimize FOLDER/bert -o faster
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # for transformers
os.environ["KERAS_BACKEND"] = "tensorflow"  # for KerasHub

import tensorflow as tf


@dataclass(frozen=True)
class Size:
    """Of an encoder."""

    layers: int
    width: int
    heads: int
    units: int
    embedding: int
    vocabulary: int
    positions: int


SIZES = {"small": Size(3, 64, 4, 128, 32, 120, 64), "base": Size(12, 768, 12, 3072, 128, 30522, 512)}


def of_transformers(size: Size) -> Iterator[tuple[str, Any]]:
    """Gives models of `transformers` by name."""
    import transformers as t

    sizes = {
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.units,
    }
    model = {**sizes, "vocab_size": size.vocabulary, "max_position_embeddings": size.positions}
    yield "bert", t.TFBertModel(t.BertConfig(**model))
    yield "bert_classifier", t.TFBertForSequenceClassification(t.BertConfig(**model, num_labels=3))
    yield "albert", t.TFAlbertModel(t.AlbertConfig(**model, embedding_size=size.embedding))
    yield "roberta", t.TFRobertaModel(t.RobertaConfig(**model))
    yield "electra", t.TFElectraModel(t.ElectraConfig(**model, embedding_size=size.embedding))
    distilbert = t.DistilBertConfig(
        dim=size.width,
        n_layers=max(size.layers // 2, 3),
        n_heads=size.heads,
        hidden_dim=size.units,
        vocab_size=size.vocabulary,
    )
    yield "distilbert", t.TFDistilBertModel(distilbert)


def of_keras_hub(size: Size) -> Iterator[tuple[str, Any]]:
    """Gives models of KerasHub by name."""
    from keras_hub import models as m

    layers = {
        "num_layers": size.layers,
        "num_heads": size.heads,
        "hidden_dim": size.width,
        "intermediate_dim": size.units,
        "max_sequence_length": size.positions,
    }
    model = {**layers, "vocabulary_size": size.vocabulary}
    yield "bert", m.BertBackbone(**model)
    yield "bert_classifier", m.BertTextClassifier(m.BertBackbone(**model), num_classes=3, preprocessor=None)
    yield "albert", m.AlbertBackbone(**model, embedding_dim=size.embedding)
    yield "roberta", m.RobertaBackbone(**model)
    yield "xlm_roberta", m.XLMRobertaBackbone(**model)
    yield "electra", m.ElectraBackbone(**layers, vocab_size=size.vocabulary, embedding_dim=size.embedding)
    yield "distilbert", m.DistilBertBackbone(**model)
    yield "deberta_v3", m.DebertaV3Backbone(**model)


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=("transformers", "keras_hub"))
    parser.add_argument("folder")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--only", help="the one model to be written")
    arguments = parser.parse_args()
    of_library, write = (
        (of_transformers, save) if arguments.library == "transformers" else (of_keras_hub, lambda m, f: m.export(f))
    )
    for name, model in of_library(SIZES[arguments.size]):
        if arguments.only in (None, name):
            write(model, f"{arguments.folder}/{name}")
