"""Smaller Transformers cut out of larger ones: kept heads and units, or evenly spaced layers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from optops.models.slicing import assign, checked_keep, cut, cut_to_largest, evenly_spaced
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer

IN_A_LAYER = re.compile(r"transformer/(encoder|decoder)_\d+/")


def shrink(model: Transformer, keep: Mapping[str, Sequence[int]]) -> Transformer:
    """Returns a smaller model that computes what `model` does with gates of 0 on everything that is not kept.

    Args:
        model: Left as it is.
        keep: Indices of the heads or feed-forward units to keep, in any order, under the names that `config.units`
            gives; a group that is not named is kept whole.

    Raises:
        ValueError: If a name is unknown, or indices are none, repeated, or out of range.
    """
    checked_keep(model.config.units(), keep)
    small = Transformer(model.config.with_units({name: len(indices) for name, indices in keep.items()}))
    arrays = {weight.name: weight.numpy() for weight in model.weights}
    for name, indices in keep.items():
        cut(arrays, f"transformer/{name}", sorted(indices), model.config.head_size)
    assign(small, arrays)
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
    for name in ("width", "head_size", "vocabulary"):
        mine, theirs = getattr(config, name), getattr(teacher.config, name)
        if mine != theirs:
            raise ValueError(
                f"from_teacher: {name} is {mine}, the teacher's is {theirs}; make them equal or start afresh"
            )
    origins = {
        stack: evenly_spaced(len(getattr(config, stack)), len(getattr(teacher.config, stack)), stack)
        for stack in ("encoder", "decoder")
    }
    chosen = {weight.name: weight.numpy() for weight in keep_layers(teacher, **origins).weights}
    for name, count in config.units().items():
        cut_to_largest(chosen, f"transformer/{name}", count, config.head_size)
    student = Transformer(config)
    assign(student, chosen)
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
    arrays = {weight.name: weight.numpy() for weight in model.weights}
    chosen = {name: value for name, value in arrays.items() if not IN_A_LAYER.match(name)}
    sizes: dict[str, tuple[Any, ...]] = {}
    for stack, wanted in (("encoder", encoder), ("decoder", decoder)):
        layers = getattr(model.config, stack)
        kept = range(len(layers)) if wanted is None else wanted
        if not kept or not set(kept) <= set(range(len(layers))):
            raise ValueError(f"keep_layers: the {stack} has layers 0 to {len(layers) - 1}; keep some, not {list(kept)}")
        sizes[stack] = tuple(layers[index] for index in kept)
        for index, origin in enumerate(kept):
            old, new = f"transformer/{stack}_{origin}/", f"transformer/{stack}_{index}/"
            chosen |= {new + name.removeprefix(old): value for name, value in arrays.items() if name.startswith(old)}
    shallower = Transformer(replace(model.config, encoder=sizes["encoder"], decoder=sizes["decoder"]))
    assign(shallower, chosen)
    return shallower


def cut_outputs(model: Transformer, outputs: int) -> Transformer:
    """Returns a model that can write the first `outputs` ids alone, with the same weights.

    Raises:
        ValueError: If there are not that many, or no more than the special ids.
    """
    cut = Transformer(replace(model.config, output_vocabulary=outputs))
    assign(cut, {weight.name: weight.numpy() for weight in model.weights})
    return cut
