"""Masked-language-model training: guessing hidden tokens of unlabelled texts (Devlin et al. 2019, section 3.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.models.bert.model import ACTIVATIONS, Bert, layer_norm
from optops.models.keras import keras, tf
from optops.models.token_ids import PADDING
from optops.models.training.batching import TextBatches
from optops.models.training.losses import row_cross_entropy
from optops.models.training.settings import Batch, Batches, Validate

MASKED, RANDOM = 0.8, 0.1
"""Of the tokens to be guessed, the shares that are hidden and that are replaced by others; the rest stays."""
LEAST_HIDDEN, MOST_MASKINGS = 100, 100
"""A few short texts may have no token hidden at all in one epoch, and would judge every model alike."""


@dataclass(frozen=True)
class MaskedBatches:
    """Texts some of whose tokens are to be guessed; others in every epoch.

    A batch holds `ids` int32 [batch, time] as the model reads them and `labels` int32 [batch, time], 0 where nothing is
    to be guessed.

    Attributes:
        texts: The texts, whose labels do not matter.
        vocabulary: Number of ids.
        specials: Ids that are never guessed.
        mask: The id that hides a token.
        share: Of the tokens that are to be guessed.
    """

    texts: TextBatches
    vocabulary: int
    specials: frozenset[int]
    mask: int
    share: float

    def __call__(self, epoch: int) -> "EpochOfMasked":
        """Returns the batches of one epoch; the same for the same seed and epoch."""
        return EpochOfMasked(self, epoch, self.texts(epoch))


def held_out_batches(masked: MaskedBatches) -> list[Batch]:
    """Returns batches to judge by, the texts masked anew until `LEAST_HIDDEN` tokens are hidden or patience ends.

    Raises:
        ValueError: If none is hidden.
    """
    batches: list[Batch] = []
    hidden = 0
    for epoch in range(1, MOST_MASKINGS + 1):
        batches += masked(epoch)
        hidden = sum(int(np.count_nonzero(batch["labels"] != PADDING)) for batch in batches)
        if hidden >= LEAST_HIDDEN:
            break
    if not hidden:
        raise ValueError("no token of the held-out texts is hidden, so nothing can be judged; give more texts")
    return batches


@dataclass(frozen=True)
class EpochOfMasked:
    """The batches of one epoch; each is masked when its turn comes."""

    masked: MaskedBatches
    epoch: int
    batches: Batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        random = np.random.default_rng((self.masked.texts.seed, self.epoch, 1))
        specials = np.array(sorted(self.masked.specials))
        for batch in self.batches:
            ids: NDArray[np.int32] = batch["ids"]
            chosen = (random.random(ids.shape) < self.masked.share) & ~np.isin(ids, specials)
            fate = random.random(ids.shape)
            others = random.integers(1, self.masked.vocabulary, ids.shape, dtype=np.int32)
            hidden = np.where(fate < MASKED, np.int32(self.masked.mask), np.where(fate < MASKED + RANDOM, others, ids))
            yield {"ids": np.where(chosen, hidden, ids), "labels": np.where(chosen, ids, np.int32(PADDING))}


class MaskedTokenLoss:
    """The cross-entropy of hidden tokens, with the head that guesses them: BERT's, which shares the token embeddings.

    Args:
        model: Whose states are guessed from.
        seed: Of the head's start.

    Attributes:
        variables: The head's, which are trained with the model and not kept.
    """

    def __init__(self, model: Bert, seed: int) -> None:
        config = model.config
        start = keras.initializers.GlorotUniform(seed=seed)
        self._transform = keras.layers.Dense(
            config.embeddings,
            activation=ACTIVATIONS[config.activation],
            kernel_initializer=start,
        )
        self._norm = layer_norm("norm")
        self._transform.build([None, config.width])
        self._norm.build([None, config.embeddings])
        self._bias = tf.Variable(tf.zeros([config.vocabulary]), name="bias")
        self.variables = [*self._transform.variables, *self._norm.variables, self._bias]

    def __call__(self, model: Bert, batch: Any, progress: Any) -> Any:
        """Returns the mean over the hidden tokens, and the share of them that are guessed right."""
        del progress
        labels, logits = self._guess(model, batch, training=True)
        right = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), labels)
        return _mean(row_cross_entropy(logits, labels, 0.0)), {"accuracy": _mean(tf.cast(right, tf.float32))}

    def held_out(self, batches: Sequence[Batch]) -> Validate:
        """Returns the measure to give to `fit`: the mean log-likelihood of the hidden tokens of these batches."""

        @tf.function(reduce_retracing=True)
        def total(model: Bert, ids: Any, labels: Any) -> Any:
            found, logits = self._guess(model, {"ids": ids, "labels": labels}, training=False)
            return tf.reduce_sum(row_cross_entropy(logits, found, 0.0)), tf.size(found)

        tensors = [(tf.constant(batch["ids"]), tf.constant(batch["labels"])) for batch in batches]

        def validate(model: Any) -> float:
            sums = [total(model, *batch) for batch in tensors]
            return -float(sum(loss for loss, _ in sums)) / max(1, int(sum(count for _, count in sums)))

        return validate

    def _guess(self, model: Bert, batch: Any, training: bool) -> tuple[Any, Any]:
        """Returns labels int32 [hidden] and logits [hidden, vocabulary] of the hidden tokens."""
        places = tf.where(tf.not_equal(batch["labels"], PADDING))
        states = tf.gather_nd(model.encode(batch["ids"], training=training), places)
        guessed = self._norm(self._transform(states))
        logits = tf.matmul(guessed, model.embeddings.token, transpose_b=True) + self._bias
        return tf.gather_nd(batch["labels"], places), logits


def _mean(values: Any) -> Any:
    return tf.math.divide_no_nan(tf.reduce_sum(values), tf.cast(tf.size(values), tf.float32))
