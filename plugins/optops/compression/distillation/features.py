"""What a student learns from inside its teacher: attention maps and hidden states, layer by layer (L_AT_FMT)."""

from collections.abc import Sequence
from typing import Any, Protocol

from optops.models.keras import tf
from optops.models.token_ids import PADDING

TINY = 1e-12
STACKS = {"encoder": "source", "decoder": "target"}
"""The stacks of layers, and which ids their positions belong to."""

ATTENTIONS = (
    ("encoder", "self_attention", "source", "source"),
    ("decoder", "self_attention", "target", "target"),
    ("decoder", "cross_attention", "target", "source"),
)
"""The attentions of each stack, with the ids that their queries and their keys belong to."""


def uniform_map(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Returns the teacher's layer, from 0, that each layer of the student imitates: the last of its even share.

    Layer m of M, counted from 1, imitates layer ceil(m N / M) of N: the last the last, 2 of 4 layers the second and
    the fourth.

    Source: Jiao et al. 2020 (TinyBERT), section 3.1, g(m) = m N / M.
    """
    return tuple(-(-(layer * teacher_layers) // student_layers) - 1 for layer in range(1, student_layers + 1))


def attention_transfer(student: Any, teacher: Any, ids: Any) -> Any:
    """Returns how far two sets of attention maps are apart: mean over examples of |Q_S/|Q_S| - Q_T/|Q_T||^2.

    Q is the sum over heads of the squared maps, so the number of heads may differ; |.| is the norm over all positions
    of an example. Zero for equal maps, 2 for maps that share nothing.

    Args:
        student: float32 [batch, heads, queries, keys].
        teacher: The same but for the heads; no gradient flows into it.
        ids: int32 [batch, queries]; rows of padding (0) do not count.

    Source: Zagoruyko & Komodakis 2017, equation 2, with the square that the authors' code uses.
    """
    rows = tf.cast(tf.not_equal(ids, PADDING), tf.float32)[:, :, None]

    def normalised(maps: Any) -> Any:
        energy = tf.reduce_sum(tf.square(maps), axis=1) * rows
        return energy * tf.math.rsqrt(tf.reduce_sum(tf.square(energy), axis=[1, 2], keepdims=True) + TINY)

    gap = normalised(student) - normalised(tf.stop_gradient(teacher))
    return tf.reduce_mean(tf.reduce_sum(tf.square(gap), axis=[1, 2]))


def state_transfer(student: Any, teacher: Any, ids: Any) -> Any:
    """Returns the squared error between two sets of hidden states, as a share of the teacher's mean square.

    The share makes it comparable from layer to layer: the residual stream grows on its way.

    Args:
        student: float32 [batch, time, width], projected to the teacher's width.
        teacher: float32 [batch, time, width]; no gradient flows into it.
        ids: int32 [batch, time]; padding (0) does not count.

    Source: Romero et al. 2015, equation 3; Jiao et al. 2020, equation 8.
    """
    rows = tf.cast(tf.not_equal(ids, PADDING), tf.float32)[:, :, None]
    teacher = tf.stop_gradient(teacher)
    error = tf.reduce_sum(tf.square(student - teacher) * rows)
    return error / (tf.reduce_sum(tf.square(teacher) * rows) + TINY)


def relation_divergence(student: Any, teacher: Any, ids: Any) -> Any:
    """Returns KL(teacher || student) of the relations softmax(V V^T / sqrt(head size)), mean over heads and positions.

    Args:
        student: Values, float32 [batch, heads, time, head size].
        teacher: The same but for the head size; no gradient flows into it.
        ids: int32 [batch, time]; rows of padding do not count, columns of padding get no share.

    Source: Wang et al. 2020 (MiniLM), section 3.2.
    """

    def logits(values: Any) -> Any:
        size = tf.cast(tf.shape(values)[-1], tf.float32)
        hidden = tf.cast(tf.equal(ids, PADDING), tf.float32)[:, None, None, :] * -1e9
        return tf.nn.log_softmax(tf.matmul(values, values, transpose_b=True) * tf.math.rsqrt(size) + hidden)

    return _divergence(logits(student), logits(tf.stop_gradient(teacher)), ids)


def attention_divergence(student: Any, teacher: Any, queries: Any) -> Any:
    """Returns KL(teacher || student) of attention maps, mean over heads and positions.

    Args:
        student: float32 [batch, heads, queries, keys].
        teacher: The same; no gradient flows into it.
        queries: int32 [batch, queries]; rows of padding do not count.

    Source: Wang et al. 2020 (MiniLM), section 3.1.
    """
    return _divergence(tf.math.log(student + TINY), tf.math.log(tf.stop_gradient(teacher) + TINY), queries)


def _divergence(student: Any, teacher: Any, queries: Any) -> Any:
    rows = tf.cast(tf.not_equal(queries, PADDING), tf.float32)[:, None, :]
    rows = tf.broadcast_to(rows, tf.shape(teacher)[:3])
    divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
    return tf.math.divide_no_nan(tf.reduce_sum(divergence * rows), tf.reduce_sum(rows))


class Sizes(Protocol):
    """What is read of a model's config."""

    @property
    def width(self) -> int:
        """Size of the residual stream."""

    def stacks(self) -> dict[str, int]:
        """Returns how many layers run, by the name of the stack: `encoder`, and `decoder` if there is one."""

    def attention_heads(self) -> dict[str, int]:
        """Returns the heads of each attention that runs, by the name that `features` gives it."""


class LayerByLayer:
    """L_AT_FMT: attention maps and hidden states of every layer of the student against those of the teacher's layers.

    The mean of `attention_transfer` over all attentions plus the mean of `state_transfer` over all layers. Depths are
    matched by `uniform_map`; where the widths differ, one learned projection takes the student's states to the
    teacher's width.

    Args:
        teacher: Sizes of the teacher.
        student: Sizes of the student.

    Attributes:
        variables: The projection, if there is one; to be trained with the student.
    """

    def __init__(self, teacher: Sizes, student: Sizes) -> None:
        self._pairs = [
            (f"{stack}_{mine}", f"{stack}_{theirs}", STACKS[stack])
            for stack, layers in student.stacks().items()
            for mine, theirs in enumerate(uniform_map(layers, teacher.stacks()[stack]))
        ]
        self.variables: list[Any] = []
        if student.width != teacher.width:
            # Columns of unit norm on average, and the same in every run.
            start = tf.random.stateless_normal([student.width, teacher.width], [0, 0], stddev=student.width**-0.5)
            self.variables = [tf.Variable(start, name="projection")]

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Any:
        """Returns the loss, a scalar, for two `Features` of one batch."""
        maps: list[Any] = []
        states: list[Any] = []
        for mine, theirs, ids in self._pairs:
            for kind in ("self_attention", "cross_attention"):
                if f"{mine}/{kind}" in student.attention:
                    pair = student.attention[f"{mine}/{kind}"], teacher.attention[f"{theirs}/{kind}"]
                    maps.append(attention_transfer(*pair, batch[ids]))
            states.append(state_transfer(self._project(student.hidden[mine]), teacher.hidden[theirs], batch[ids]))
        return _mean(maps) + _mean(states)

    def _project(self, states: Any) -> Any:
        return tf.einsum("btw,wv->btv", states, self.variables[0]) if self.variables else states


class LastLayerRelations:
    """MiniLM's loss: attention maps and value relations of the last layer of each stack, head by head.

    It asks nothing of depths and widths, and the same number of heads.

    Args:
        teacher: Sizes of the teacher.
        student: Sizes of the student.

    Raises:
        ValueError: If the last layers differ in their heads.

    Source: Wang et al. 2020 (MiniLM), section 3; of a translation model, here for all three attentions.
    """

    variables: Sequence[Any] = ()

    def __init__(self, teacher: Sizes, student: Sizes) -> None:
        own_heads, their_heads = student.attention_heads(), teacher.attention_heads()
        self._pairs = []
        for stack, kind, queries, keys in ATTENTIONS:
            if stack not in student.stacks():
                continue
            names = tuple(f"{stack}_{sizes.stacks()[stack] - 1}/{kind}" for sizes in (student, teacher))
            heads = own_heads[names[0]], their_heads[names[1]]
            if heads[0] != heads[1]:
                raise ValueError(
                    f"relations: the student's {names[0]} has {heads[0]} heads, the teacher's {names[1]} {heads[1]}; "
                    "give the student the same heads, or take layer-by-layer features"
                )
            self._pairs.append((*names, queries, keys))

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Any:
        """Returns the loss, a scalar, for two `Features` of one batch."""
        found: list[Any] = []
        for mine, theirs, queries, keys in self._pairs:
            found.append(attention_divergence(student.attention[mine], teacher.attention[theirs], batch[queries]))
            values = student.values[mine], teacher.values[theirs]
            found.append(relation_divergence(*values, batch[keys]))
        return _mean(found)


def _mean(values: Sequence[Any]) -> Any:
    return tf.add_n(list(values)) / len(values)
