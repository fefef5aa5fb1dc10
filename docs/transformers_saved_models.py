"""Writes SavedModels of small encoders with random weights, to try the graph optimiser on.

They come from `transformers` 4, the last with TensorFlow, which optops does not need. In an environment of its own:

    uv venv models && uv pip install --python models "transformers<5" "tensorflow==2.21.*" tf-keras
    models/bin/python docs/transformers_saved_models.py FOLDER
    optops optimize FOLDER/bert -o faster
"""

import os
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf
import transformers

SIZES = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
SMALL = {**SIZES, "vocab_size": 120, "max_position_embeddings": 64}
DISTILBERT = {"dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 128, "vocab_size": 120}
MODELS = {
    "bert": transformers.TFBertModel(transformers.BertConfig(**SMALL)),
    "bert_classifier": transformers.TFBertForSequenceClassification(transformers.BertConfig(**SMALL, num_labels=3)),
    "albert": transformers.TFAlbertModel(transformers.AlbertConfig(**SMALL, embedding_size=32)),
    "distilbert": transformers.TFDistilBertModel(transformers.DistilBertConfig(**DISTILBERT)),
    "roberta": transformers.TFRobertaModel(transformers.RobertaConfig(**SMALL)),
    "electra": transformers.TFElectraModel(transformers.ElectraConfig(**SMALL, embedding_size=32)),
}


def save(name: str, folder: str) -> None:
    """Writes one model with ids and mask as its inputs."""
    model = MODELS[name]
    specs = [tf.TensorSpec([None, None], tf.int32, name=each) for each in ("input_ids", "attention_mask")]

    @tf.function(input_signature=specs)
    def serve(ids: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the tensors among the outputs."""
        found = model({"input_ids": ids, "attention_mask": mask}, training=False)
        return {key: value for key, value in found.items() if isinstance(value, tf.Tensor)}

    tf.saved_model.save(model, f"{folder}/{name}", signatures={"serving_default": serve})


if __name__ == "__main__":
    for each in MODELS:
        save(each, sys.argv[1])
