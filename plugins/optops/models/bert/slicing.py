"""Smaller BERTs cut out of larger ones: kept heads and units, or some of the layers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from optops.models import slicing
from optops.models.bert.config import BertConfig
from optops.models.bert.model import Bert


def shrink(model: Bert, keep: Mapping[str, Sequence[int]]) -> Bert:
    """Returns a smaller model that computes what `model` does with gates of 0 on everything that is not kept.

    Arguments and errors are those of `models.slicing.shrunk`.
    """
    small: Bert = slicing.shrunk(model, keep, "bert")
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
    sizes = ("width", "head_size", "vocabulary", "classes", "embedding_width", "max_positions")
    slicing.check_same(config, teacher.config, sizes)
    origins = slicing.evenly_spaced(len(config.encoder), len(teacher.config.encoder), "encoder")
    arrays = slicing.weights_of(keep_layers(teacher, origins))
    for name, count in config.units().items():
        slicing.cut_to_largest(arrays, f"bert/{name}", count, config.head_size)
    student = Bert(config)
    slicing.assign(student, arrays)
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
    slicing.check_layers("encoder", layers, len(available))
    kept = tuple(available[index] for index in layers)
    shallower = Bert(replace(model.config, encoder=kept, repeats=repeats or model.config.repeats))
    slicing.assign(shallower, slicing.renumbered(slicing.weights_of(model), "bert", {"encoder": layers}))
    return shallower
