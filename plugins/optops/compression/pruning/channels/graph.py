"""Follows channels through a functional Keras model, and says which of them go together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, lcm
from typing import Any

import numpy as np

from optops.compression.pruning.channels.atoms import Atoms
from optops.compression.pruning.channels.layers import MAKE_CHANNELS, RULES, NoRuleError, Trace, embedding
from optops.compression.pruning.channels.operations import OPERATIONS
from optops.models.functional.calls import check_can_be_followed, entering, is_nested
from optops.models.keras import tf

SAME_FOR_ALL = (bool, int, float, str, tf.DType, type(None))


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that the same layers make: each may go, with all that is tied to it, in every one of these layers.

    Attributes:
        layers: Names of the layers that make the channels.
        channels: For each channel an atom that stands for all that are tied to it.
        multiplicities: For each layer, how many of its channels go with one of these: four before a pixel shuffle by
            two, for example.
    """

    layers: tuple[str, ...]
    channels: Atoms
    multiplicities: tuple[int, ...]

    def block(self, multiple: int) -> int:
        """Returns how many channels go together if the widths of all layers are to change by multiples."""
        return lcm(*(multiple // gcd(multiple, count) for count in self.multiplicities))


@dataclass(frozen=True)
class ChannelGraph:
    """Which channels of a model go together.

    Attributes:
        trace: All atoms, and the weights and settings that have them.
        groups: What may be pruned.
        left_whole: Names of layers whose channels must all stay, with the reason.
    """

    trace: Trace
    groups: tuple[ChannelGroup, ...]
    left_whole: Mapping[str, str]

    def __str__(self) -> str:
        """Lists the groups, then what is left whole and why."""
        lines = [
            f"{len(group.channels)} channels"
            + ": "
            + ", ".join(
                name if count == 1 else f"{name} ({count} at a time)"
                for name, count in zip(group.layers, group.multiplicities, strict=True)
            )
            for group in self.groups
        ]
        return "\n".join([*lines, *(f"left whole: {name}: {reason}" for name, reason in self.left_whole.items())])


def follow_channels(model: Any) -> ChannelGraph:
    """Returns which channels of a functional or sequential model of tf_keras go together.

    What the model takes and gives stays as it is. A layer that no rule is known for is left whole, and so is what
    leads to it.

    Raises:
        TypeError: If the model is neither functional nor sequential, or not built.
    """
    check_can_be_followed(model)
    trace = Trace()
    inputs = []
    for tensor in model.inputs:
        atoms = _whole(trace, tensor, "it is an input of the model")
        inputs.append(atoms)
    for atoms in _run(trace, model, inputs):
        if atoms is not None:
            trace.ties.fix(atoms, "it is an output of the model")
    return ChannelGraph(trace, tuple(_groups(trace)), dict(_left_whole(trace)))


def input_slot(number: int) -> str:
    """Returns the slot of a nested model's input."""
    return f"input {number}"


def _run(trace: Trace, model: Any, inputs: Sequence[Atoms | None]) -> list[Atoms | None]:
    """Follows one call of a model; returns the atoms of its outputs."""
    known: dict[int, Atoms | None] = {id(tensor): atoms for tensor, atoms in zip(model.inputs, inputs, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            taken = [known[id(tensor)] for tensor in node.keras_inputs]
            for tensor, atoms in zip(tf.nest.flatten(node.outputs), _call(trace, node, taken), strict=True):
                known[id(tensor)] = atoms
    return [known[id(tensor)] for tensor in model.outputs]


def _call(trace: Trace, node: Any, inputs: list[Atoms | None]) -> list[Atoms | None]:
    layer = node.layer
    outputs = tf.nest.flatten(node.outputs)
    if is_nested(layer):
        # A constant has no channels that are followed.
        places = entering(node, range(len(inputs)))
        inputs = [inputs[place] if isinstance(place, int) else None for place in places]
        for number, atoms in enumerate(inputs):
            if atoms is not None:
                trace.ties.tie(atoms, trace.slot(layer, input_slot(number), len(atoms)))
        return _run(trace, layer, inputs)
    if layer not in trace.refused:
        try:
            return [_apply_rule(trace, node, inputs)]
        except NoRuleError as error:
            symbol = getattr(layer, "symbol", None)
            what = f"tf.{symbol}" if symbol else type(layer).__name__
            trace.refuse(layer, f"{layer.name} ({what}) needs them all: {error}")
    reason = trace.refused[layer]
    for atoms in inputs:
        if atoms is not None:
            trace.ties.fix(atoms, reason)
    return [_whole(trace, tensor, reason) for tensor in outputs]


def _apply_rule(trace: Trace, node: Any, inputs: list[Atoms | None]) -> Atoms:
    layer = node.layer
    symbol = getattr(layer, "symbol", None)
    rule = OPERATIONS.get(symbol) if symbol else RULES.get(type(layer))
    if rule is None:
        raise NoRuleError("what it does to channels is not known")
    # Row numbers have no channels.
    known = [atoms for atoms in inputs if atoms is not None]
    if len(tf.nest.flatten(node.outputs)) > 1 or (len(known) < len(inputs) and rule is not embedding):
        raise NoRuleError("its channels are not known")
    _refuse_constants(node)
    if not symbol:
        _refuse_masks(node)
    return rule(trace, layer, known, node)


def _refuse_constants(node: Any) -> None:
    """Refuses what no rule looks at: constants that may have a number for each channel."""
    followed = {id(tensor) for tensor in node.keras_inputs}
    for value in (*node.call_args, *node.call_kwargs.values()):
        parts = tf.nest.flatten(value)
        for part in parts:
            alike = len(parts) == 1 and (isinstance(part, SAME_FOR_ALL) or _is_one_number(part))
            if id(part) not in followed and not alike:
                raise NoRuleError(f"it takes a {type(part).__name__}, which may have a number for each channel")


def _refuse_masks(node: Any) -> None:
    """Refuses what no rule of a layer looks at: tensors in a second argument, besides its inputs."""
    followed = {id(tensor) for tensor in node.keras_inputs}
    arguments = map(tf.nest.flatten, (*node.call_args, *node.call_kwargs.values()))
    if sum(any(id(part) in followed for part in parts) for parts in arguments) > 1:
        raise NoRuleError("it takes a mask, or other tensors besides its inputs")


def _is_one_number(value: Any) -> bool:
    # `1.0 - tensor` is recorded with a tensor for the number.
    return isinstance(value, np.ndarray | np.generic | tf.Tensor) and np.size(value) == 1


def _whole(trace: Trace, tensor: Any, reason: str) -> Atoms | None:
    """Returns new atoms for a tensor, all of which must stay; None where their number is not known."""
    count = tensor.shape[-1] if tensor.shape.rank else None
    if count is None:
        return None
    atoms = trace.ties.new(count)
    trace.ties.fix(atoms, reason)
    return atoms


def _made(trace: Trace) -> Iterator[tuple[Any, Atoms]]:
    """Yields each layer that makes new channels, with their atoms."""
    for layer, weights in trace.weights.items():
        for weight in weights:
            if weight.produces is not None:
                yield layer, weight.axes[weight.produces]


def _groups(trace: Trace) -> Iterator[ChannelGroup]:
    makers: dict[int, dict[Any, int]] = {}
    for layer, atoms in _made(trace):
        for root in trace.ties.roots(atoms).tolist():
            if trace.ties.reason(root) is None:
                counts = makers.setdefault(root, {})
                counts[layer] = counts.get(layer, 0) + 1
    together: dict[tuple[tuple[Any, int], ...], list[int]] = {}
    for root, counts in makers.items():
        together.setdefault(tuple(counts.items()), []).append(root)
    for signature, roots in together.items():
        names = tuple(layer.name for layer, _ in signature)
        yield ChannelGroup(names, np.array(roots, np.int64), tuple(count for _, count in signature))


def _left_whole(trace: Trace) -> Iterator[tuple[str, str]]:
    for layer, reason in trace.refused.items():
        # Of those within a wrapper, for example, no call is followed.
        if RULES.get(type(layer)) in MAKE_CHANNELS and layer not in trace.weights:
            yield layer.name, reason
    for layer, atoms in _made(trace):
        reasons = {trace.ties.reason(root) for root in trace.ties.roots(atoms).tolist()}
        if None not in reasons:
            yield layer.name, "; ".join(sorted(filter(None, reasons)))
