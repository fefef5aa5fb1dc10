"""Cuts the channels that matter least out of a functional Keras model; the result is to be fine-tuned."""

from typing import Any

import numpy as np

from optops.compression.pruning.channels.constants import constant_contributions
from optops.compression.pruning.channels.criteria import Criterion, importance, l2_norm
from optops.compression.pruning.channels.graph import ChannelGraph, ChannelGroup, follow_channels
from optops.compression.pruning.channels.rebuild import without_channels
from optops.compression.pruning.selection import select


def prune_channels(
    model: Any,
    ratio: float,
    *,
    criterion: Criterion = l2_norm,
    multiple: int = 8,
    floor: float = 0.1,
    inputs: Any = None,
    whole: Any = None,
) -> Any:
    """Returns a smaller model without the channels that matter least, with the weights of the rest.

    Channels that a model ties (by residual sums, depthwise convolutions, pixel shuffles, shared layers, ...) go
    together; `follow_channels(model)` lists which. Groups compete with each other, by importance relative to what would
    be left of the group if the criterion is not comparable between layers. What is left keeps its weights; measure
    batch norms anew (`measure_batch_norms`) and train it further, best with distillation from the unpruned model.

    Args:
        model: A functional or sequential Keras model; left as it is. Inputs and outputs stay as they are.
        ratio: Share of the channels that may be pruned to remove, in [0, 1).
        criterion: What a channel matters: `l1_norm`, `l2_norm`, `batch_norm_scale`, or `taylor(...)`.
        multiple: Widths stay multiples of it, for others can be slower; what is no multiple before may stay so.
        floor: Share of every group that stays in any case.
        inputs: A batch that the model takes. With it, what removed channels say without their batch norms' scales, a
            constant, is added to the biases of what reads them, where that is exact: not where zeros are padded. For
            `batch_norm_scale`, whose removed channels have hardly a scale.
        whole: What `model` was before it was pruned the first time, if it was: the model of whose channels `ratio` and
            `floor` are shares.

    Raises:
        TypeError: If the model is neither functional nor sequential.
        ValueError: If the ratio is out of range, a weight is not finite, no channel may be pruned, or none is for the
            sake of `multiple` and `floor`.

    Source: Molchanov et al. 2017 (global ranking); Lee et al. 2021 (relative to what is left); Fang et al. 2023 (groups
    of tied channels).
    """
    graph = follow_channels(model)
    before = None if whole is None else follow_channels(whole)
    removed = least_important(graph, ratio, criterion, multiple, floor, before)
    if ratio and not removed and whole is None:
        widths = ", ".join(sorted({str(len(group.channels)) for group in graph.groups}, key=int))
        raise ValueError(
            f"prune_channels: at ratio {ratio:g} no channel goes: widths stay multiples of {multiple}, and every group "
            f"keeps one such multiple and {floor:.0%} of its channels; groups have {widths} channels. Give a smaller "
            "`multiple`, or a larger ratio"
        )
    biases = None if inputs is None else constant_contributions(model, graph, removed, inputs)
    return without_channels(model, graph, removed, biases)


def least_important(
    graph: ChannelGraph,
    ratio: float,
    criterion: Criterion = l2_norm,
    multiple: int = 8,
    floor: float = 0.1,
    whole: ChannelGraph | None = None,
) -> set[int]:
    """Returns the atoms of the channels that `prune_channels` removes; its arguments are these."""
    if not 0 <= floor < 1 or multiple < 1:
        raise ValueError(f"floor is {floor}, multiple {multiple}; give a share in [0, 1) and a number of at least 1")
    scores = importance(graph, criterion)
    groups = {
        name: group for name, group in _named(graph).items() if all(atom in scores for atom in group.channels.tolist())
    }
    if not groups:
        raise ValueError(f"prune_channels: no channel may be pruned by this criterion:\n{graph}")
    kept = select(
        {name: np.array([scores[atom] for atom in group.channels.tolist()]) for name, group in groups.items()},
        ratio,
        block={name: group.block(multiple) for name, group in groups.items()},
        floor=floor,
        comparable=criterion.comparable,
        whole={name: len(group.channels) for name, group in (groups | _named(whole or graph)).items()},
    )
    return {atom for name, group in groups.items() for atom in np.delete(group.channels, kept[name]).tolist()}


def _named(graph: ChannelGraph) -> dict[str, ChannelGroup]:
    """Returns the groups by names that they keep when channels are pruned."""
    named: dict[str, ChannelGroup] = {}
    for group in graph.groups:
        name = " ".join(group.layers)
        while name in named:  # layers of several nested models may have the same names
            name += "'"
        named[name] = group
    return named
