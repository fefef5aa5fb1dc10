"""A separable convolution as the two that it is, which runtimes know and int8 can run."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from optops.models.keras import keras


@dataclass(frozen=True)
class SeparateLayers:
    """A depthwise convolution and the convolution of single places that follows it; called like a layer."""

    depthwise: Any
    pointwise: Any

    @classmethod
    def of(cls, config: Mapping[str, Any], used: Collection[str]) -> "SeparateLayers":
        """Makes both from the config of a SeparableConv2D; the second keeps its name.

        Args:
            config: Of the layer.
            used: Names that the first may not have.
        """
        name = f"{config['name']}_depthwise"
        while name in used:
            name += "_"
        taken = (
            *("dtype", "trainable", "kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier"),
            *("data_format", "depthwise_regularizer"),
        )
        depthwise = keras.layers.DepthwiseConv2D(name=name, use_bias=False, **{key: config[key] for key in taken})
        kept = (
            *("name", "dtype", "trainable", "filters", "use_bias", "activation", "data_format"),
            *("bias_regularizer", "activity_regularizer"),
        )
        given = {"kernel_regularizer": config["pointwise_regularizer"], **{key: config[key] for key in kept}}
        return cls(depthwise, keras.layers.Conv2D(kernel_size=1, **given))

    def __call__(self, inputs: Any) -> Any:
        """Returns what the separable convolution does."""
        return self.pointwise(self.depthwise(inputs))
