"""Smaller BERTs cut out of larger ones: kept heads and units, or some of the layers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from optops.models.bert.config import BertConfig
from optops.models.bert.model import Bert
from optops.models.slicing import assign, checked_keep, cut, cut_to_largest, evenly_spaced

IN_A_LAYER = re.compile(r"bert/encoder_\d+/")


def shrink(model: Bert, keep: Mapping[str, Sequence[int]]) -> Bert:
    """Returns a smaller model that computes what `model` does with gates of 0 on everything that is not kept.

    Args:
        model: Left as it is.
        keep: Indices of the heads or feed-forward units to keep, in any order, under the names that `config.units`
            gives; a group that is not named is kept whole.

    Raises:
        ValueError: If a name is unknown, or indices are none, repeated, or out of range.
    """
    checked_keep(model.config.units(), keep)
    small = Bert(model.config.with_units({name: len(indices) for name, indices in keep.items()}))
    arrays = {weight.name: weight.numpy() for weight in model.weights}
    for name, indices in keep.items():
        cut(arrays, f"bert/{name}", sorted(indices), model.config.head_size)
    assign(small, arrays)
    return small


def from_teacher(teacher: Bert, config: BertConfig) -> Bert:
    """Returns a student of the teacher's width whose layers start as evenly spaced layers of the teacher.

    Where a student's layer has fewer heads or units, those of the teacher with the largest norms are taken. A layer
    that runs several times may run less often in the student.

    Args:
        teacher: Left as it is.
        config: Sizes of the student.

    Raises:
        ValueError: If another size than those differs, or the student is larger than the teacher somewhere.
    """
    for name in ("width", "head_size", "vocabulary", "classes", "embedding_width", "max_positions"):
        mine, theirs = getattr(config, name), getattr(teacher.config, name)
        if mine != theirs:
            raise ValueError(
                f"from_teacher: {name} is {mine}, the teacher's is {theirs}; make them equal or start afresh"
            )
    origins = evenly_spaced(len(config.encoder), len(teacher.config.encoder), "encoder")
    arrays = {weight.name: weight.numpy() for weight in keep_layers(teacher, origins).weights}
    for name, count in config.units().items():
        cut_to_largest(arrays, f"bert/{name}", count, config.head_size)
    student = Bert(config)
    assign(student, arrays)
    return student


def keep_layers(model: Bert, layers: Sequence[int], repeats: int | None = None) -> Bert:
    """Returns a model with some of the layers of `model`, in the order given.

    Args:
        model: Left as it is.
        layers: Indices of the layers to keep.
        repeats: How often each of them runs; as often as before if None.

    Raises:
        ValueError: If no layer is kept, or an index is out of range.
    """
    available = model.config.encoder
    if not layers or not set(layers) <= set(range(len(available))):
        raise ValueError(
            f"keep_layers: the encoder has layers 0 to {len(available) - 1}; keep some, not {list(layers)}"
        )
    arrays = {weight.name: weight.numpy() for weight in model.weights}
    chosen = {name: value for name, value in arrays.items() if not IN_A_LAYER.match(name)}
    for index, origin in enumerate(layers):
        old, new = f"bert/encoder_{origin}/", f"bert/encoder_{index}/"
        chosen |= {new + name.removeprefix(old): value for name, value in arrays.items() if name.startswith(old)}
    kept = tuple(available[index] for index in layers)
    shallower = Bert(replace(model.config, encoder=kept, repeats=repeats or model.config.repeats))
    assign(shallower, chosen)
    return shallower
