"""The layer calls of a functional model in the order of computation, those within nested models among them."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optops.models.functional.full_precision import HALVES, is_mixed
from optops.models.keras import keras, tf


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer.

    Attributes:
        layer: The layer, shared by all of its calls.
        node: Keras' own record of the call, with the arguments that are no tensors.
        inputs: Numbers of the tensors that it takes.
        outputs: Numbers of the tensors that it gives.
        training: As the call, or that of the nested model that it belongs to, fixes it; None if neither does.
    """

    layer: Any
    node: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    training: bool | None


@dataclass(frozen=True)
class Calls:
    """All calls of a model, as if it had no nested models.

    Attributes:
        model: The model.
        inputs: Numbers of the tensors that the model takes.
        outputs: Numbers of the tensors that it gives.
        calls: In the order of computation.
        names: Layer to a name that no other layer of them has: its own, or after those of the nested models it is in.
    """

    model: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: tuple[Call, ...]
    names: dict[Any, str]

    def readers(self) -> dict[int, list[Call]]:
        """Returns which calls take a tensor, by its number."""
        found: dict[int, list[Call]] = defaultdict(list)
        for call in self.calls:
            for tensor in dict.fromkeys(call.inputs):
                found[tensor].append(call)
        return found


def is_nested(layer: Any) -> bool:
    """Returns whether a layer is a functional or sequential model."""
    return isinstance(layer, keras.Model) and bool(getattr(layer, "_is_graph_network", False))


def check_can_be_followed(model: Any) -> None:
    """Refuses what is not a built functional or sequential model of tf_keras.

    Raises:
        TypeError: Says what it is, and what to do.
    """
    if not is_nested(model):
        what = f"{type(model).__name__} of {type(model).__module__}"
        raise TypeError(
            f"{getattr(model, 'name', model)} is a {what}, whose layers can not be followed; give a functional or a "
            "built sequential model of tf_keras (optops.compression.to_keras_2 makes one of a model of Keras 3)"
        )


def calls_of(model: Any) -> Calls:
    """Returns the calls of a functional or sequential model.

    Raises:
        TypeError: If the model is neither, or not built.
    """
    check_can_be_followed(model)
    follower = _Follower()
    inputs = [follower.number() for _ in model.inputs]
    outputs = follower.run(model, inputs, None, ())
    return Calls(model, tuple(inputs), tuple(outputs), tuple(follower.calls), follower.names())


class _Follower:
    """Numbers tensors and collects calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.paths: dict[Any, tuple[str, ...]] = {}
        self.makers: dict[int, Any] = {}
        self.count = 0

    def number(self) -> int:
        self.count += 1
        return self.count - 1

    def run(self, model: Any, inputs: Sequence[int], training: bool | None, path: tuple[str, ...]) -> list[int]:
        """Follows one call of a model; returns the numbers of its outputs."""
        known = {id(tensor): number for tensor, number in zip(model.inputs, inputs, strict=True)}
        for node in nodes_of(model):
            taken = [known[id(tensor)] for tensor in node.keras_inputs]
            fixed = training_of(node.layer, node.call_args, node.call_kwargs)
            mode = training if fixed is None else bool(fixed)
            if is_nested(node.layer):
                given = self.run(node.layer, _checked(node, taken, self.makers), mode, (*path, node.layer.name))
            else:
                given = [self.number() for _ in tf.nest.flatten(node.outputs)]
                self.paths.setdefault(node.layer, (*path, node.layer.name))
                self.makers.update(dict.fromkeys(given, node.layer))
                self.calls.append(Call(node.layer, node, tuple(taken), tuple(given), mode))
            known.update(zip(map(id, tf.nest.flatten(node.outputs)), given, strict=True))
        return [known[id(tensor)] for tensor in model.outputs]

    def names(self) -> dict[Any, str]:
        """Returns a name for each layer that is its own where it can be."""
        named: dict[Any, str] = {}
        used: set[str] = set()
        for layer, path in sorted(self.paths.items(), key=lambda item: len(item[1])):
            name = path[-1] if path[-1] not in used else "/".join(path)
            while name in used:
                name += "_"
            used.add(name)
            named[layer] = name
        return named


def nodes_of(model: Any) -> list[Any]:
    """Returns Keras' records of the calls in a functional model, inputs left out, in the order of computation."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in model._nodes_by_depth[depth] if not node.is_input]


def arguments_of(node: Any, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of a call with other tensors in place of those that it was recorded with."""
    waiting = defaultdict(list)
    for old, new in reversed(list(zip(node.keras_inputs, tensors, strict=True))):
        waiting[str(id(old))].append(new)
    args, kwargs = node.map_arguments(waiting)
    return tuple(args), dict(kwargs)


def training_of(layer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Returns what a call of a layer is given for `training`, by place or by name; None if nothing."""
    return {**dict(zip(_places(layer), args, strict=False)), **kwargs}.get("training")


def with_training(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], training: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of a call of a layer with a value for `training`, if it takes that and is not given any."""
    if "training" not in layer._call_spec.arg_names or training_of(layer, args, kwargs) is not None:
        return args, kwargs
    by_place = _places(layer)[: len(args)]
    if "training" not in by_place:
        return args, {**kwargs, "training": training}
    place = by_place.index("training")
    return (*args[:place], training, *args[place + 1 :]), kwargs


def _places(layer: Any) -> list[str]:
    """Returns the names of the arguments of a layer's calls that may be given by place."""
    names: list[str] = layer._call_spec.arg_names
    return names[: len(names) - len(layer._call_spec.full_argspec.kwonlyargs)]


def rebuild(
    calls: Calls,
    call_layer: Callable[[Call, tuple[Any, ...], dict[str, Any]], Any],
    read: Callable[[int, Any], Any] = lambda number, tensor: tensor,
) -> Any:
    """Returns a functional model made by calling layers anew.

    Args:
        calls: Of the model that it is made from.
        call_layer: Called with each call and its arguments; returns what it gives.
        read: Called with a tensor's number and the tensor; returns what the calls that take it are given instead.
    """
    model = calls.model
    entries = [_input_like(tensor, name) for tensor, name in zip(model.inputs, model.input_names, strict=True)]
    values = dict(zip(calls.inputs, entries, strict=True))
    for call in calls.calls:
        given = call_layer(call, *arguments_of(call.node, [read(tensor, values[tensor]) for tensor in call.inputs]))
        values.update(zip(call.outputs, tf.nest.flatten(given), strict=True))
    structured = _structures(model)
    inputs = tf.nest.pack_sequence_as(structured[0], entries)
    outputs = tf.nest.pack_sequence_as(structured[1], [values[tensor] for tensor in calls.outputs])
    return keras.Model(inputs, outputs, name=model.name)


def _structures(model: Any) -> tuple[Any, Any]:
    # Keras keeps lists and dictionaries of inputs and outputs as they were given, under these names alone.
    return model._nested_inputs, model._nested_outputs


def _input_like(tensor: Any, name: str) -> Any:
    return keras.Input(batch_shape=tuple(tensor.shape), dtype=tensor.dtype, name=name)


def entering(node: Any, taken: Sequence[int]) -> list[Any]:
    """Returns which of the tensors that a call of a nested model takes are its inputs, in the order of its own.

    Args:
        node: Of the call.
        taken: A number for each of the tensors, in the order of the call.

    Returns:
        Their numbers, and constants as they are.
    """
    args, kwargs = arguments_of(node, taken)
    return list(node.layer._flatten_to_reference_inputs(args[0] if args else kwargs["inputs"]))


def _checked(node: Any, taken: Sequence[int], makers: Mapping[int, Any]) -> list[int]:
    """Returns what `entering` does, and refuses what the nested model would cast or reshape.

    Args:
        node: As for `entering`.
        taken: As for `entering`.
        makers: The layers that made the tensors, by their numbers.
    """
    model, numbers = node.layer, entering(node, taken)
    outer = dict(zip(taken, node.keras_inputs, strict=True))
    for number, tensor in zip(numbers, model.inputs, strict=True):
        came = outer.get(number) if isinstance(number, int) else None
        if came is None or not _fits(came, tensor, makers.get(number)):
            raise TypeError(
                f"nested model {model.name!r} takes {tensor.dtype.name} {tensor.shape} and is called with "
                f"{'a constant' if came is None else f'{came.dtype.name} {came.shape}'}; call it with what it takes"
            )
    return numbers


def _fits(came: Any, wanted: Any, maker: Any) -> bool:
    """Returns whether a tensor is of the type and rank that a nested model takes, in full precision at the latest."""
    # What a layer makes in mixed precision, it makes in float32 then.
    widens = wanted.dtype == tf.float32 and came.dtype in HALVES and maker is not None and is_mixed(maker)
    return bool(came.shape.rank == wanted.shape.rank and (came.dtype == wanted.dtype or widens))
