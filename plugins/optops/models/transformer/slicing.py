"""Smaller Transformers cut out of larger ones: kept heads and units, or evenly spaced layers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from optops.models import slicing
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer


def shrink(model: Transformer, keep: Mapping[str, Sequence[int]]) -> Transformer:
    """Returns a smaller model that computes what `model` does with gates of 0 on everything that is not kept.

    Arguments and errors are those of `models.slicing.shrunk`.
    """
    small: Transformer = slicing.shrunk(model, keep, "transformer")
    return small


def from_teacher(teacher: Transformer, config: TransformerConfig) -> Transformer:
    """Returns a student of the teacher's width whose layers start as evenly spaced layers of the teacher.

    A student of one layer gets the teacher's first (Shleifer & Rush 2020, table 2). Where a student's layer has
    fewer heads or units, those of the teacher with the largest norms are taken.

    Args:
        teacher: Left as it is.
        config: Sizes of the student.

    Raises:
        ValueError: If width, head size or vocabulary differ, or the student is larger than the teacher somewhere.
    """
    slicing.check_same(config, teacher.config, ("width", "head_size", "vocabulary"))
    origins = {
        stack: slicing.evenly_spaced(len(getattr(config, stack)), len(getattr(teacher.config, stack)), stack)
        for stack in ("encoder", "decoder")
    }
    arrays = slicing.weights_of(keep_layers(teacher, **origins))
    for name, count in config.units().items():
        slicing.cut_to_largest(arrays, f"transformer/{name}", count, config.head_size)
    student = Transformer(config)
    slicing.assign(student, arrays)
    return student


def keep_layers(
    model: Transformer, encoder: Sequence[int] | None = None, decoder: Sequence[int] | None = None
) -> Transformer:
    """Returns a model with some of the layers of `model`, in the order given.

    Args:
        model: Left as it is.
        encoder: Indices of the encoder layers to keep; all if None.
        decoder: Indices of the decoder layers to keep; all if None.

    Raises:
        ValueError: If no layer of a stack is kept, or an index is out of range.
    """
    kept, sizes = {}, {}
    for stack, wanted in (("encoder", encoder), ("decoder", decoder)):
        layers = getattr(model.config, stack)
        kept[stack] = range(len(layers)) if wanted is None else wanted
        slicing.check_layers(stack, kept[stack], len(layers))
        sizes[stack] = tuple(layers[index] for index in kept[stack])
    shallower = Transformer(replace(model.config, encoder=sizes["encoder"], decoder=sizes["decoder"]))
    slicing.assign(shallower, slicing.renumbered(slicing.weights_of(model), "transformer", kept))
    return shallower


def cut_outputs(model: Transformer, outputs: int) -> Transformer:
    """Returns a model that can write the first `outputs` ids alone, with the same weights.

    Raises:
        ValueError: If there are not that many, or no more than the special ids.
    """
    cut = Transformer(replace(model.config, output_vocabulary=outputs))
    slicing.assign(cut, slicing.weights_of(model))
    return cut
