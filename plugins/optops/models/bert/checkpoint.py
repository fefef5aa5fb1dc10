"""Published TensorFlow checkpoints of BERT and ALBERT, read by the names their authors gave the variables.

Sources: https://github.com/google-research/bert and https://github.com/google-research/albert, `modeling.py`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np

from optops.models.bert.config import Activation
from optops.models.bert.model import Bert
from optops.models.keras import tf

NAMED = 5
EMBEDDINGS = {
    "bert/embeddings/token": "bert/embeddings/word_embeddings",
    "bert/embeddings/position": "bert/embeddings/position_embeddings",
    "bert/embeddings/segment": "bert/embeddings/token_type_embeddings",
    "bert/embeddings/norm": "bert/embeddings/LayerNorm",
    "bert/embeddings/projection": "bert/encoder/embedding_hidden_mapping_in",
    "bert/pooler": "bert/pooler/dense",
}
BERT_LAYER = {
    "self_attention/query": "attention/self/query",
    "self_attention/key": "attention/self/key",
    "self_attention/value": "attention/self/value",
    "self_attention/output": "attention/output/dense",
    "self_attention_norm": "attention/output/LayerNorm",
    "feed_forward/expand": "intermediate/dense",
    "feed_forward/contract": "output/dense",
    "feed_forward_norm": "output/LayerNorm",
}
ALBERT_LAYER = {
    "self_attention/query": "attention_1/self/query",
    "self_attention/key": "attention_1/self/key",
    "self_attention/value": "attention_1/self/value",
    "self_attention/output": "attention_1/output/dense",
    "self_attention_norm": "LayerNorm",
    "feed_forward/expand": "ffn_1/intermediate/dense",
    "feed_forward/contract": "ffn_1/intermediate/output/dense",
    "feed_forward_norm": "LayerNorm_1",
}
ALBERT_PREFIX = "bert/encoder/transformer/group_"
ACTIVATIONS: dict[str, tuple[Activation, ...]] = {"gelu": ("gelu_tanh", "gelu"), "relu": ("relu",)}
"""What `hidden_act` in a config means; what the original code calls GELU is its approximation."""

CONFIG_FILES = ("bert_config.json", "albert_config.json")


def load_checkpoint(model: Bert, prefix: Path) -> None:
    """Gives a model the weights of a published checkpoint; what classifies stays as it is.

    Positions beyond those of the model are left out. Variables do not tell how many heads they are for, nor how often
    shared layers run, nor their activation: the config that the authors publish beside a checkpoint does, and is held
    against the model.

    Args:
        model: Of the sizes of the checkpoint; its weights are changed.
        prefix: The checkpoint's files without their endings, for example `.../bert_model.ckpt`.

    Raises:
        ValueError: If there is no such checkpoint, its config says other sizes or another activation, a variable is
            missing or has another shape, or layers would be left over; names them.
    """
    _check_config(model, prefix)
    reader = _open(prefix)
    shapes = reader.get_variable_to_shape_map()
    albert = any(name.startswith(ALBERT_PREFIX) for name in shapes)
    names = dict(_original_names(model, albert))
    missing = sorted(name for name in names.values() if name not in shapes)
    if missing:
        raise ValueError(
            f"model.checkpoint: {prefix} has no {_some(missing)}; it holds {_some(sorted(shapes))}. It must be one of "
            f"{'ALBERT' if albert else 'BERT'} with the sizes of `model`"
        )
    over = _layer_prefix(albert, len(model.config.encoder))
    if any(name.startswith(over) for name in shapes):
        raise ValueError(
            f"model.checkpoint: {prefix} has more layers than the {len(model.config.encoder)} of `model` ({over}...); "
            "write as many, and let `distill` or `prune` leave some out"
        )
    arrays = {name: _fitting(name, reader.get_tensor(name)) for name in names.values()}
    _assign(model, names, arrays, prefix)


def _open(prefix: Path) -> Any:
    index = prefix.with_name(prefix.name + ".index")
    if not index.is_file():
        raise ValueError(
            f"model.checkpoint: {index} does not exist; write what the checkpoint's files have in common, for example "
            "bert_model.ckpt"
        )
    try:
        return tf.train.load_checkpoint(str(prefix))
    except (tf.errors.OpError, RuntimeError) as error:
        raise ValueError(f"model.checkpoint: {prefix} can not be read: {error}; fetch it again") from error


def _check_config(model: Bert, prefix: Path) -> None:
    ours = {
        "num_attention_heads": ("heads", model.config.encoder[0].heads),
        "num_hidden_layers": ("layers", model.config.depth),
        "num_hidden_groups": ("groups", len(model.config.encoder)),
    }
    for file in map(prefix.with_name, CONFIG_FILES):
        if not file.is_file():
            continue
        try:
            theirs = dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"model.checkpoint: {file} is no JSON object: {error}; fetch it again") from error
        for name, (key, size) in ours.items():
            if theirs.get(name, size) != size:
                raise ValueError(
                    f"model.{key} is {size}, but the checkpoint's {file.name} has {name} {theirs[name]}; write "
                    f"`{key}: {theirs[name]}`"
                )
        _check_activation(model.config.activation, theirs.get("hidden_act", model.config.activation), file)


def _check_activation(ours: Activation, theirs: object, file: Path) -> None:
    known = {name: (name,) for name in get_args(Activation)} | ACTIVATIONS
    if not isinstance(theirs, str) or theirs not in known:
        raise ValueError(
            f"model.checkpoint: the checkpoint's {file.name} has hidden_act {theirs!r}; this BERT has "
            f"{', '.join(known)}: take another checkpoint"
        )
    if ours not in known[theirs]:
        raise ValueError(
            f"model.activation is {ours}, but the checkpoint's {file.name} has hidden_act {theirs}; write "
            f"`activation: {known[theirs][0]}`"
        )


def _layer_prefix(albert: bool, index: int) -> str:
    return f"{ALBERT_PREFIX}{index}/inner_group_0/" if albert else f"bert/encoder/layer_{index}/"


def _original_names(model: Bert, albert: bool) -> Iterator[tuple[str, str]]:
    """Gives our name of each weight and that in the checkpoint."""
    blocks = dict(EMBEDDINGS)
    for index in range(len(model.config.encoder)):
        for ours, theirs in (ALBERT_LAYER if albert else BERT_LAYER).items():
            blocks[f"bert/encoder_{index}/{ours}"] = _layer_prefix(albert, index) + theirs
    for weight in model.weights:
        name = weight.name.removesuffix(":0")
        block, _, kind = name.rpartition("/")
        if name in blocks:
            yield weight.name, blocks[name]
        elif block in blocks:
            yield weight.name, f"{blocks[block]}/{kind}"


def _fitting(name: str, array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise ValueError(f"model.checkpoint: {name} holds NaN or infinity; fetch the checkpoint again")
    return array


def _assign(model: Bert, names: dict[str, str], arrays: dict[str, np.ndarray], prefix: Path) -> None:
    positions = EMBEDDINGS["bert/embeddings/position"]
    arrays[positions] = arrays[positions][: model.config.max_positions]
    wrong = [
        f"{names[weight.name]} {list(arrays[names[weight.name]].shape)} where `model` has {list(weight.shape)}"
        for weight in model.weights
        if weight.name in names and arrays[names[weight.name]].shape != tuple(weight.shape)
    ]
    if wrong:
        raise ValueError(
            f"model.checkpoint: {prefix} has {_some(wrong)}; write its sizes and its vocabulary in `model`"
        )
    for weight in model.weights:
        if weight.name in names:
            weight.assign(arrays[names[weight.name]])


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
