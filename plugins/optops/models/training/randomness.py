"""Dropout that follows from seed and epoch alone, so that a resumed run draws what an uninterrupted one draws."""

from typing import Any

import numpy as np

from optops.models.keras import keras

STATEFUL_OPERATIONS = frozenset(
    {"RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "Multinomial", "RandomGamma"}
)


def random_layers(model: Any) -> list[Any]:
    """Returns the Keras layers of a model that draw random numbers, in the order of the model."""
    return [layer for layer in model.submodules if isinstance(layer, keras.__internal__.layers.BaseRandomLayer)]


def use_generators(model: Any) -> None:
    """Makes each random layer draw from a generator whose state is a variable; call it before anything is traced.

    By default tf_keras draws with stateful operations, whose state lives in the kernel and can't be set.
    """
    for layer in random_layers(model):
        generator = layer._random_generator  # Keras offers this only as a constructor argument of each layer
        if generator._rng_type == generator.RNG_LEGACY_STATEFUL:
            generator._rng_type, generator._built = generator.RNG_STATEFUL, False
        generator._maybe_init()


def reseed(model: Any, seed: int, epoch: int) -> None:
    """Sets every generator of the model from seed and epoch."""
    for index, layer in enumerate(random_layers(model)):
        generator = layer._random_generator._generator
        if generator is not None:
            # Philox state: 128 bits of counter and 64 of key. Mixed, or neighbouring seeds would share one stream.
            state = np.random.SeedSequence((seed, epoch, index)).generate_state(3, np.uint64).view(np.int64)
            generator.reset(state)


def unrepeatable_operations(concrete_function: Any) -> list[str]:
    """Returns names of random operations in a traced function whose state can't be restored."""
    graphs = [concrete_function.graph.as_graph_def()]
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for graph in graphs for function in graph.library.function for node in function.node_def]
    return sorted({node.name for node in nodes if node.op in STATEFUL_OPERATIONS})
