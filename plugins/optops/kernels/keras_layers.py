"""Keras layers whose whole body is one operator: to drop into a model of one's own."""

from typing import Any, Self

from optops.kernels import tensorflow as operators
from optops.kernels.encoder import PackedEncoder
from optops.kernels.packed import Packed
from optops.kernels.translator import PackedTranslator
from optops.models.keras import keras, tf


class _FusedLayer(keras.layers.Layer):
    """A layer with packed weights as its one variable; they are not trained.

    Args:
        size: Bytes of the packed weights.
        threads: 0 means OPTOPS_THREADS, or all processors that the process may run on.
        **kwargs: As for any Keras layer.
    """

    def __init__(self, size: int, threads: int = 0, **kwargs: Any) -> None:
        # Whatever the policy is around it: Keras casts what comes in to what the operators take.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size, self.threads = size, threads
        self.packed = self.add_weight(
            name="packed_weights", shape=[size], dtype="uint8", initializer="zeros", trainable=False
        )

    @classmethod
    def _of(cls, packed: Packed, **kwargs: Any) -> Self:
        block = packed.to_bytes()
        layer = cls(block.size, **kwargs)
        layer.packed.assign(block)
        return layer

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs; the weights are saved as any layer's."""
        return {**super().get_config(), "size": self.size, "threads": self.threads}


@keras.utils.register_keras_serializable("optops")
class FusedEncoder(_FusedLayer):
    """A whole Transformer encoder: float32 [sentences, time, width] and lengths [sentences] in, states out.

    A mask that another layer made says the lengths where they are not given, and goes on with the states.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.supports_masking = True

    @classmethod
    def of(cls, encoder: PackedEncoder, **kwargs: Any) -> Self:
        """Returns the layer of a packed encoder."""
        return cls._of(encoder, **kwargs)

    def call(self, inputs: Any, lengths: Any = None, mask: Any = None) -> tf.Tensor:
        """Returns states, float32 [sentences, time, width], zero at padding.

        Args:
            inputs: float32 [sentences, time, width], embedded.
            lengths: int32 [sentences], tokens of each; None: as the mask says, and without one all are whole.
            mask: bool [sentences, time], where there are tokens; padding may only follow them.

        Raises:
            tf.errors.InvalidArgumentError: When it runs, if a token follows padding.
        """
        if lengths is None and mask is not None:
            lengths = _lengths_of(mask)
        elif lengths is None:
            lengths = tf.fill(tf.shape(inputs)[:1], tf.shape(inputs)[1])
        return operators.encode(inputs, lengths, self.packed, threads=self.threads)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the inputs."""
        return input_shape


def _lengths_of(mask: Any) -> tf.Tensor:
    """Returns how many tokens there are of each sentence, int32 [sentences]."""
    mask = tf.convert_to_tensor(mask, tf.bool)
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
    whole = tf.sequence_mask(lengths, tf.shape(mask)[1])
    message = "FusedEncoder: in the mask tokens follow padding; it takes padding at the end of sentences alone"
    with tf.control_dependencies([tf.debugging.assert_equal(mask, whole, message)]):
        return tf.identity(lengths)


class _FusedSearch(_FusedLayer):
    """A layer that writes translations.

    Args:
        size: Bytes of the packed weights of a `PackedTranslator`.
        beam: Hypotheses that run at once.
        results: Translations of each sentence.
        length_penalty: A hypothesis of `n` ids scores `log P / ((5 + n) / 6) ** length_penalty`.
        **kwargs: As for any Keras layer, and `threads`.
    """

    def __init__(self, size: int, beam: int = 4, results: int = 1, length_penalty: float = 0.6, **kwargs: Any) -> None:
        super().__init__(size, **kwargs)
        self._search: dict[str, Any] = {"beam": beam, "results": results, "length_penalty": length_penalty}

    @classmethod
    def of(cls, translator: PackedTranslator, **kwargs: Any) -> Self:
        """Returns the layer of a packed translator."""
        return cls._of(translator, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs; the weights are saved as any layer's."""
        return {**super().get_config(), **self._search}


@keras.utils.register_keras_serializable("optops")
class FusedTranslator(_FusedSearch):
    """A whole encoder-decoder Transformer with its beam search: token ids in, token ids out."""

    def call(self, inputs: Any, lengths: Any, limits: Any) -> operators.TranslationTensors:
        """Returns the best translations.

        Args:
            inputs: int32 [sentences, time], token ids.
            lengths: int32 [sentences], ids of each.
            limits: int32 [sentences], the most ids of each translation, the end id included.
        """
        return operators.translate(inputs, lengths, limits, self.packed, **self._search, threads=self.threads)


@keras.utils.register_keras_serializable("optops")
class FusedDecoder(_FusedSearch):
    """A Transformer's decoder with its beam search: what an encoder has made of sentences in, token ids out."""

    def call(self, inputs: Any, lengths: Any, limits: Any) -> operators.TranslationTensors:
        """Returns the best translations.

        Args:
            inputs: float32 [sentences, time, width], encoded.
            lengths: int32 [sentences], tokens of each.
            limits: int32 [sentences], the most ids of each translation, the end id included.
        """
        return operators.decode(inputs, lengths, limits, self.packed, **self._search, threads=self.threads)
