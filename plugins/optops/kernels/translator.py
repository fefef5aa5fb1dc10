"""A whole encoder-decoder Transformer in one call, on NumPy arrays: encoder, decoder with its cache, beam search."""

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optops.kernels.arrays import Activation, Floats, Precision, address, contiguous, int32_of, pointers, sentences_of
from optops.kernels.layers import DecoderLayerWeights, EncoderLayerWeights, Norm, Product, decoder_stack, encoder_stack
from optops.kernels.library import Search, TranslatorConfig
from optops.kernels.packed import Handle, Packed

if TYPE_CHECKING:
    from optops.kernels.transformer import PrecisionOf
    from optops.models.transformer.model import Transformer
    from optops.models.transformer.weights import TransformerWeights

Ids = NDArray[np.int32]


class Translations(NamedTuple):
    """What a search found.

    Attributes:
        ids: int32 [sentences, results, longest], each closed by the end id, then padding.
        lengths: int32 [sentences, results], ids of each, the end included; 0 where there is no result.
        scores: float32 [sentences, results], best first; NaN where there is no result.
    """

    ids: Ids
    lengths: Ids
    scores: Floats


class PackedTranslator(Packed):
    """An encoder-decoder Transformer that translates token ids in one call.

    The whole loop over positions runs inside the library. Padding is not computed, sentences that are done are
    dropped, keys and values of the source are computed once per sentence, and hypotheses find theirs without any cache
    being copied. A sentence's result is the same to the last bit for any number of threads and any other sentences
    beside it.

    Args:
        encoder: Its layers.
        decoder: Its layers.
        head_size: Of every head; queries are divided by its square root.
        source_embedding: float32 [vocabulary, width], with all factors on it.
        positions: float32 [positions, width], added to the embeddings of both sides.
        projection: From states to the logits of all outputs, [width, outputs], and a bias; a large negative bias takes
            an output out.
        target_embedding: float32 [outputs, width]; None: the first rows of the source's.
        encoder_norm: The norm after the last layer, scale and offset; with it the encoder is pre-norm, as in
            `PackedEncoder`.
        decoder_norm: The same of the decoder.
        padding: What results are filled up with.
        begin: The id that a translation starts from; it is not part of the result.
        end: The id that closes it.
        activation: Of the hidden units.
        epsilon: Of the norms.
        precision: Of the products that do not say otherwise: `fp32`, `bf16` or `int8`; attention as in `PackedEncoder`,
            all else in fp32.
        projection_precision: Of the projection; None: as `precision`.

    Raises:
        ValueError: If shapes do not fit, or a value is not finite.
        KernelsUnavailableError: If the compiled operators are not installed.
    """

    kind: ClassVar[str] = "translator"

    def __init__(
        self,
        encoder: Sequence[EncoderLayerWeights],
        decoder: Sequence[DecoderLayerWeights],
        *,
        head_size: int,
        source_embedding: Floats,
        positions: Floats,
        projection: Product,
        target_embedding: Floats | None = None,
        encoder_norm: Norm | None = None,
        decoder_norm: Norm | None = None,
        padding: int = 0,
        begin: int = 1,
        end: int = 2,
        activation: Activation = "relu",
        epsilon: float = 1e-6,
        precision: Precision = "fp32",
        projection_precision: Precision | None = None,
    ) -> None:
        first = encoder_stack(
            encoder,
            head_size=head_size,
            last_norm=encoder_norm,
            activation=activation,
            epsilon=epsilon,
            precision=precision,
        )
        second = decoder_stack(
            decoder,
            head_size=head_size,
            last_norm=decoder_norm,
            projection=projection,
            activation=activation,
            epsilon=epsilon,
            precision=precision,
            projection_precision=projection_precision or precision,
        )
        own_target = {} if target_embedding is None else {"target_embedding": target_embedding}
        tables = {"source_embedding": source_embedding, **own_target, "positions": positions}
        for name, table in tables.items():
            if table.ndim != 2 or table.shape[1] != first.config.width:
                raise ValueError(f"{name} has shape {table.shape}; it must be [..., {first.config.width}]")
        if target_embedding is not None and len(target_embedding) != second.config.outputs:
            raise ValueError(
                f"target_embedding has {len(target_embedding)} rows; there are {second.config.outputs} outputs"
            )
        config = TranslatorConfig(
            encoder=first.config,
            decoder=second.config,
            vocabulary=len(source_embedding),
            positions=len(positions),
            padding=padding,
            begin=begin,
            end=end,
            shared_embedding=int(target_embedding is None),
        )
        arrays = [*(contiguous(table) for table in tables.values()), *first.arrays, *second.arrays]
        self._handle = Handle.packed(self.kind, ctypes.byref(config), pointers(arrays), len(arrays))

    @classmethod
    def from_keras(cls, model: "Transformer", precision: Precision = "fp32") -> "PackedTranslator":
        """Returns the operators' form of a `Transformer`, all products in one precision."""
        from optops.kernels.transformer import uniform
        from optops.models.transformer.weights import read_weights

        return cls.from_weights(read_weights(model, scaled_queries=False), uniform(precision))

    @classmethod
    def from_weights(cls, weights: "TransformerWeights", precision_of: "PrecisionOf") -> "PackedTranslator":
        """Returns the operators' form of a Transformer's weights, whose queries must not be scaled."""
        from optops.kernels.transformer import decoder_layers, encoder_layers
        from optops.models.token_ids import BEGIN, END, PADDING

        return cls(
            encoder_layers(weights.encoder, precision_of),
            decoder_layers(weights.decoder, precision_of),
            head_size=weights.head_size,
            source_embedding=weights.embedding,
            positions=weights.positions,
            projection=(weights.projection.kernel, weights.projection.bias),
            encoder_norm=(weights.encoder_norm.scale, weights.encoder_norm.offset),
            decoder_norm=(weights.decoder_norm.scale, weights.decoder_norm.offset),
            padding=PADDING,
            begin=BEGIN,
            end=END,
            projection_precision=precision_of(weights.projection.name),
        )

    def translate(
        self,
        ids: Ids,
        lengths: NDArray[np.integer] | Sequence[int],
        limits: NDArray[np.integer] | Sequence[int],
        *,
        beam: int = 4,
        results: int = 1,
        length_penalty: float = 0.6,
        minimum_length: int = 0,
        threads: int = 0,
    ) -> Translations:
        """Returns the best translations.

        Args:
            ids: int32 [sentences, time]; what stands at padding does not matter.
            lengths: Ids of each sentence, [sentences], each from 1 to `time`.
            limits: The most ids of each translation, the end id included, [sentences].
            beam: Hypotheses that run at once; 1 is greedy search.
            results: Translations of each sentence; with more than one the search goes on until `beam` have ended.
            length_penalty: A hypothesis of `n` ids scores `log P / ((5 + n) / 6) ** length_penalty`; -5 to 5.
            minimum_length: The fewest ids of a translation, the end id included.
            threads: 0 means OPTOPS_THREADS, or all processors that the process may run on.

        Raises:
            ValueError: If a shape, an id, a length or a setting does not fit.
        """
        if ids.ndim != 2:
            raise ValueError(f"ids have shape {ids.shape}; they must be [sentences, time]")
        there, starts = sentences_of("ids", ids.shape, lengths)
        source = int32_of("ids", ids[there])
        search = Search(beam=beam, results=results, minimum_length=minimum_length, length_penalty=length_penalty)
        return self._search("run", source, starts, len(ids), limits, search, threads)

    def encode(self, ids: Ids, lengths: NDArray[np.integer] | Sequence[int], *, threads: int = 0) -> Floats:
        """Returns the encoder's output, float32 [sentences, time, width], zero at padding; see `translate`."""
        if ids.ndim != 2:
            raise ValueError(f"ids have shape {ids.shape}; they must be [sentences, time]")
        there, starts = sentences_of("ids", ids.shape, lengths)
        source = int32_of("ids", ids[there])
        states = np.empty((len(source), self._handle.sizes(4)[0]), np.float32)
        self._handle.run("encode", address(source), address(starts), len(ids), address(states), threads=threads)
        memory = np.zeros((*ids.shape, states.shape[1]), np.float32)
        memory[there] = states
        return memory

    def decode(
        self,
        memory: Floats,
        lengths: NDArray[np.integer] | Sequence[int],
        limits: NDArray[np.integer] | Sequence[int],
        *,
        beam: int = 4,
        results: int = 1,
        length_penalty: float = 0.6,
        minimum_length: int = 0,
        threads: int = 0,
    ) -> Translations:
        """Returns the best translations of what an encoder gave, float32 [sentences, time, width]; see `translate`."""
        width = self._handle.sizes(4)[0]
        if memory.ndim != 3 or memory.shape[2] != width:
            raise ValueError(f"memory has shape {memory.shape}; it must be [sentences, time, {width}]")
        there, starts = sentences_of("memory", memory.shape, lengths)
        search = Search(beam=beam, results=results, minimum_length=minimum_length, length_penalty=length_penalty)
        return self._search("decode", contiguous(memory[there]), starts, len(memory), limits, search, threads)

    def _search(
        self,
        function: str,
        source: NDArray[np.generic],
        starts: NDArray[np.int64],
        sentences: int,
        limits: NDArray[np.integer] | Sequence[int],
        search: Search,
        threads: int,
    ) -> Translations:
        most = int32_of("limits", limits)
        if most.shape != (sentences,):
            raise ValueError(f"limits have shape {most.shape}; there are {sentences} sentences")
        search.limits, search.capacity = most.ctypes.data, int(most.max(initial=0))
        # Before there is any room for results: the search says how much there has to be.
        self._handle.call("check", ctypes.byref(search), sentences)
        shape = (sentences, search.results)
        ids = np.zeros((*shape, search.capacity), np.int32)
        counts, scores = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        arguments = address(source), address(starts), sentences, ctypes.byref(search)
        self._handle.run(function, *arguments, address(ids), address(counts), address(scores), threads=threads)
        longest = int(counts.max()) if counts.size else 0
        return Translations(ids[:, :, :longest], counts, scores)
