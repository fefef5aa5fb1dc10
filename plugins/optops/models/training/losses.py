"""Cross-entropy with label smoothing: of token ids, as the mean over those that are not padding, and of classes."""

from typing import Any

from optops.models.keras import tf
from optops.models.token_ids import PADDING
from optops.models.training.settings import Loss


def mean_over_tokens(values: Any, labels: Any) -> Any:
    """Returns the mean of values [batch, time] over the positions whose label is not padding."""
    mask = tf.cast(tf.not_equal(labels, PADDING), values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values * mask), tf.reduce_sum(mask))


def smoothed_cross_entropy(labels: Any, logits: Any, smoothing: float) -> Any:
    """Returns the mean of `token_cross_entropy` over all tokens that are not padding; a scalar."""
    return mean_over_tokens(token_cross_entropy(labels, logits, smoothing), labels)


def token_cross_entropy(labels: Any, logits: Any, smoothing: float) -> Any:
    """Returns the cross-entropy of each token against its label smoothed over the vocabulary.

    The target is (1 - smoothing) onehot(y) + smoothing / V; it is never made as a [batch, time, V] tensor.

    Args:
        labels: int32 [batch, time]; 0 is padding.
        logits: float32 [batch, time, V].
        smoothing: In [0, 1).

    Returns:
        float32 [batch, time]; what stands at padding means nothing.

    Source: Szegedy et al. 2016, section 7.
    """
    rows = tf.reshape(logits, [-1, tf.shape(logits)[-1]])
    values = row_cross_entropy(rows, tf.reshape(labels, [-1]), smoothing)
    return tf.reshape(values, tf.shape(labels))


def row_cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    """Returns lse(z) - (1 - smoothing) z_y - smoothing mean(z) for each row of logits [rows, V], labels int32 [rows].

    TensorFlow's own sparse cross-entropy takes eight times as long as its softmax on a CPU. Here softmax is all there
    is to compute: lse(z) = max(z) - log(max(softmax(z))), where the logarithm's argument is never below 1 / V.
    """

    @tf.custom_gradient
    def of_logits(logits: Any) -> Any:
        probabilities = tf.nn.softmax(logits)
        log_sum = tf.reduce_max(logits, axis=-1) - tf.math.log(tf.reduce_max(probabilities, axis=-1))
        positions = tf.stack([tf.range(tf.shape(labels)[0]), labels], axis=1)
        values = log_sum - (1 - smoothing) * tf.gather_nd(logits, positions)
        if smoothing:
            values -= smoothing * tf.reduce_mean(logits, axis=-1)

        def gradient(upstream: Any) -> Any:
            scaled = probabilities * upstream[:, None]
            if smoothing:
                scaled -= (smoothing / tf.cast(tf.shape(logits)[-1], logits.dtype) * upstream)[:, None]
            return tf.tensor_scatter_nd_sub(scaled, positions, (1 - smoothing) * upstream)

        return values, gradient

    return of_logits(logits)


def sequence_loss(smoothing: float) -> Loss:
    """Returns the loss of an encoder-decoder model on batches with `source`, `target` and `labels`.

    The model is called as `model({"source": ..., "target": ...}, training=True)` and gives logits [batch, time, V]
    for `labels`. Next to the loss it reports `accuracy`, the share of tokens predicted right.
    """

    def loss(model: Any, batch: Any, progress: Any) -> Any:
        del progress
        logits = model({"source": batch["source"], "target": batch["target"]}, training=True)
        accuracy = token_accuracy(batch["labels"], logits)
        return smoothed_cross_entropy(batch["labels"], logits, smoothing), {"accuracy": accuracy}

    return loss


def token_accuracy(labels: Any, logits: Any) -> Any:
    """Returns the share of tokens, padding left out, whose logit is the largest (ties count)."""
    label_logits = tf.gather(logits, labels, axis=-1, batch_dims=2)
    right = label_logits >= tf.reduce_max(logits, axis=-1)  # several times faster than argmax
    return mean_over_tokens(tf.cast(right, logits.dtype), labels)


def class_loss(smoothing: float) -> Loss:
    """Returns the loss of a classifier on batches with `labels` int32 [batch] beside the model's inputs.

    The model is called as `model(batch, training=True)` and gives logits [batch, classes]. Next to the loss it reports
    `accuracy`, the share of examples predicted right.
    """

    def loss(model: Any, batch: Any, progress: Any) -> Any:
        del progress
        logits = model(batch, training=True)
        return (
            tf.reduce_mean(row_cross_entropy(logits, batch["labels"], smoothing)),
            {"accuracy": class_accuracy(batch["labels"], logits)},
        )

    return loss


def class_accuracy(labels: Any, logits: Any) -> Any:
    """Returns the share of rows whose label has the largest logit."""
    return tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), labels), tf.float32))
