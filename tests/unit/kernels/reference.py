"""A Transformer and its beam search in float64, without a cache: what the operators are held against."""

from dataclasses import dataclass, replace

import numpy as np

from optops.kernels import DecoderLayerWeights, EncoderLayerWeights
from optops.runtimes.beam_search import Continuations

BEGIN, END = 1, 2
HEAD_SIZE, WIDTH, VOCABULARY, OUTPUTS, POSITIONS = 12, 40, 170, 150, 64


@dataclass(frozen=True)
class ReferenceModel:
    """Weights, in the words of `PackedTranslator`, with ReLU."""

    encoder: list
    decoder: list
    source_embedding: np.ndarray
    target_embedding: np.ndarray
    positions: np.ndarray
    projection: tuple
    encoder_norm: tuple | None
    decoder_norm: tuple | None

    def arguments(self):
        """Everything that `PackedTranslator` takes."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"head_size": HEAD_SIZE}

    def encode(self, ids):
        """States [time, width] of one sentence."""
        x = self.source_embedding[ids].astype(np.float64) + self.positions[: len(ids)]
        for layer in self.encoder:
            q, k, v = _thirds(layer.query_key_value)

            def attend(y, layer=layer, q=q, k=k, v=v):
                return _attention(y, y, q, k, v, layer.heads) @ layer.output[0] + layer.output[1]

            x = _block(x, layer.attention_norm, attend, self.encoder_norm)
            x = _block(x, layer.feed_forward_norm, _feed_forward(layer), self.encoder_norm)
        return _norm(x, self.encoder_norm) if self.encoder_norm else x

    def logits(self, written, memory):
        """Logits [time, outputs] after each id of one hypothesis, the begin id first."""
        x = self.target_embedding[written].astype(np.float64) + self.positions[: len(written)]
        for layer in self.decoder:
            q, k, v = _thirds(layer.query_key_value)
            half = layer.cross_heads * HEAD_SIZE
            kernel, bias = layer.cross_key_value
            cross_k, cross_v = (kernel[:, :half], bias[:half]), (kernel[:, half:], bias[half:])

            def look_back(y, layer=layer, q=q, k=k, v=v):
                seen = _attention(y, y, q, k, v, layer.self_heads, causal=True)
                return seen @ layer.self_output[0] + layer.self_output[1]

            def look_at_source(y, layer=layer, k=cross_k, v=cross_v):
                seen = _attention(y, memory, layer.cross_query, k, v, layer.cross_heads)
                return seen @ layer.cross_output[0] + layer.cross_output[1]

            x = _block(x, layer.self_norm, look_back, self.decoder_norm)
            x = _block(x, layer.cross_norm, look_at_source, self.decoder_norm)
            x = _block(x, layer.feed_forward_norm, _feed_forward(layer), self.decoder_norm)
        x = _norm(x, self.decoder_norm) if self.decoder_norm else x
        return x @ self.projection[0] + self.projection[1]

    def log_probability(self, ids, memory):
        """Of a whole translation, the end id included."""
        logits = self.logits([BEGIN, *ids[:-1]], memory)
        return float(_log_softmax(logits)[np.arange(len(ids)), ids].sum())


class ReferenceDecoder:
    """What `optops.runtimes.beam_search` drives: all of every hypothesis is computed anew at each step."""

    def __init__(self, model, sentences):
        self.model = model
        self.memories = [model.encode(ids) for ids in sentences]
        self.hypotheses = None

    def step(self, tokens, parents, alive, position):
        batch, beam = tokens.shape
        if self.hypotheses is None:
            self.hypotheses = tokens[:, :, None]
        else:
            kept = self.hypotheses[np.arange(batch)[:, None], parents]
            self.hypotheses = np.concatenate([kept, tokens[:, :, None]], axis=2)
        logits = [
            [self.model.logits(h, m)[-1] for h in hs] for hs, m in zip(self.hypotheses, self.memories, strict=True)
        ]
        scores = _log_softmax(np.array(logits)) + alive[:, :, None]
        flat = scores.reshape(batch, -1)
        order = np.argsort(-flat, axis=1, kind="stable")[:, : 2 * beam]
        best = np.take_along_axis(flat, order, axis=1).astype(np.float32)
        return Continuations(best, order % OUTPUTS, order // OUTPUTS, scores[:, :, END].astype(np.float32))

    def select(self, rows):
        self.hypotheses = self.hypotheses[rows]
        self.memories = [self.memories[row] for row in rows]


@dataclass(frozen=True)
class Sizes:
    """Heads and hidden units of two layers on each side; a decoder's heads are over what is written, and the source."""

    encoder: tuple = ((3, 72), (1, 20))
    decoder: tuple = ((2, 3, 72), (1, 1, 20))


# Rows of queries, keys and values, of contexts and of hidden units are multiples of 1 KB: kept apart in memory.
KILOBYTES = Sizes(((64, 256), (1, 512)), ((64, 64, 512), (1, 64, 256)))


def make_model(norm_first, seed=0, sizes=Sizes()):
    """A model of uneven layers; if not told otherwise, no size of it is a multiple of a vector."""
    random = np.random.default_rng(seed)

    def array(*shape, scale=1.0, centre=0.0):
        return (random.normal(size=shape) * scale + centre).astype(np.float32)

    def product(inputs, outputs):
        return array(inputs, outputs, scale=inputs**-0.5), array(outputs, scale=0.1)

    def norm():
        return array(WIDTH, scale=0.1, centre=1.0), array(WIDTH, scale=0.1)

    def encoder_layer(heads, units):
        inner = heads * HEAD_SIZE
        return EncoderLayerWeights(
            heads,
            norm(),
            product(WIDTH, 3 * inner),
            product(inner, WIDTH),
            norm(),
            product(WIDTH, units),
            product(units, WIDTH),
        )

    def decoder_layer(self_heads, cross_heads, units):
        own, cross = self_heads * HEAD_SIZE, cross_heads * HEAD_SIZE
        return DecoderLayerWeights(
            self_heads,
            cross_heads,
            norm(),
            product(WIDTH, 3 * own),
            product(own, WIDTH),
            norm(),
            product(WIDTH, cross),
            product(WIDTH, 2 * cross),
            product(cross, WIDTH),
            norm(),
            product(WIDTH, units),
            product(units, WIDTH),
        )

    kernel, bias = product(WIDTH, OUTPUTS)
    bias[[0, BEGIN]] = -1e9
    bias[END] += 1.0
    return ReferenceModel(
        [encoder_layer(*layer) for layer in sizes.encoder],
        [decoder_layer(*layer) for layer in sizes.decoder],
        array(VOCABULARY, WIDTH),
        array(OUTPUTS, WIDTH),
        array(POSITIONS, WIDTH, scale=0.5),
        (kernel * 2, bias),
        norm() if norm_first else None,
        norm() if norm_first else None,
    )


def shared_embedding(model):
    """The same with the first rows of the source's embedding as the target's."""
    return replace(model, target_embedding=model.source_embedding[:OUTPUTS])


def make_sentences(lengths, seed=1):
    """Ids of sentences, and the same as one array with garbage at padding."""
    random = np.random.default_rng(seed)
    ids = random.integers(3, VOCABULARY, (len(lengths), max(lengths))).astype(np.int32)
    return [row[:length] for row, length in zip(ids, lengths, strict=True)], ids


def _thirds(pair):
    return list(zip(np.split(pair[0], 3, axis=1), np.split(pair[1], 3), strict=True))


def _norm(x, pair):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * pair[0] + pair[1]


def _block(x, norm, function, norm_first):
    return x + function(_norm(x, norm)) if norm_first else _norm(x + function(x), norm)


def _feed_forward(layer):
    return lambda y: np.maximum(y @ layer.expand[0] + layer.expand[1], 0) @ layer.contract[0] + layer.contract[1]


def _attention(x, memory, query, key, value, heads, causal=False):
    q, k, v = x @ query[0] + query[1], memory @ key[0] + key[1], memory @ value[0] + value[1]
    contexts = []
    for start in range(0, heads * HEAD_SIZE, HEAD_SIZE):
        part = slice(start, start + HEAD_SIZE)
        scores = q[:, part] @ k[:, part].T / np.sqrt(HEAD_SIZE)
        if causal:
            scores = np.where(np.tri(len(scores), dtype=bool), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        contexts.append(scores / scores.sum(-1, keepdims=True) @ v[:, part])
    return np.concatenate(contexts, axis=1)


def _log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
