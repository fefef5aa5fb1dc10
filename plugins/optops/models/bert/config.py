"""The sizes of a BERT or ALBERT classifier, layer by layer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from optops.models.transformer.config import LayerSize

Activation = Literal["gelu", "gelu_tanh", "relu"]
Pooling = Literal["first", "mean"]
SEGMENTS = 2


@dataclass(frozen=True)
class BertConfig:
    """Sizes of an encoder that classifies texts; each layer has its own, so that a pruned one really is smaller.

    Attributes:
        vocabulary: Number of token ids; 0 is padding.
        classes: Number of classes.
        width: Size of the residual stream.
        head_size: Size of one attention head, the same everywhere.
        encoder: One size for each layer that has weights of its own.
        repeats: How often each of them runs, one after the other; 1 is BERT, ALBERT runs one layer all the time.
        embedding_width: Size of the embeddings if they are projected to `width` (ALBERT's factorised embedding); None
            if they have that size.
        max_positions: Longest sequence, in ids.
        separator: The id that closes every sequence.
        dropout: Rate on embeddings, on what each block adds, and on what is classified.
        activation: Of the hidden units: `gelu` is the exact one, `gelu_tanh` the approximation of the original code;
            the Chinese ALBERTs have `relu`.
        pooling: What is classified: the state of the `first` token, as in BERT, or the `mean` over all tokens, which
            learns more from few texts.
    """

    vocabulary: int
    classes: int
    width: int
    head_size: int
    encoder: tuple[LayerSize, ...]
    repeats: int = 1
    embedding_width: int | None = None
    max_positions: int = 512
    separator: int = 3
    dropout: float = 0.1
    activation: Activation = "gelu_tanh"
    pooling: Pooling = "first"

    def __post_init__(self) -> None:
        sizes = {"width": self.width, "head_size": self.head_size, "max_positions": self.max_positions}
        sizes |= {"repeats": self.repeats, "embedding_width": self.embeddings} | self.units()
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"BERT: {name} is {size}; it must be at least 1")
        if self.classes < 2:
            raise ValueError(f"BERT: classes is {self.classes}; a classifier chooses among at least 2")
        if not 0 < self.separator < self.vocabulary:
            raise ValueError(f"BERT: separator is {self.separator}; it must be an id from 1 to {self.vocabulary - 1}")
        if not self.encoder:
            raise ValueError("BERT: encoder has no layers; it needs at least one")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"BERT: dropout is {self.dropout}; it must be at least 0 and below 1")
        for name, value, choices in (
            ("activation", self.activation, get_args(Activation)),
            ("pooling", self.pooling, get_args(Pooling)),
        ):
            if value not in choices:
                raise ValueError(f"BERT: {name} is {value!r}; choose one of {', '.join(choices)}")

    @property
    def embeddings(self) -> int:
        """The size of an embedding, before it is projected."""
        return self.width if self.embedding_width is None else self.embedding_width

    @property
    def depth(self) -> int:
        """How many layers run, repetitions counted."""
        return len(self.encoder) * self.repeats

    def stacks(self) -> dict[str, int]:
        """Returns how many layers run, by the name of the stack."""
        return {"encoder": self.depth}

    def units(self) -> dict[str, int]:
        """Returns how many units each prunable group has: heads of an attention, hidden units of a feed-forward block.

        The names, for example `encoder_0/feed_forward`, also name gates and what slicing keeps.
        """
        units: dict[str, int] = {}
        for index, layer in enumerate(self.encoder):
            units[f"encoder_{index}/self_attention"] = layer.heads
            units[f"encoder_{index}/feed_forward"] = layer.feed_forward
        return units

    def attention_heads(self) -> dict[str, int]:
        """Returns the heads of each attention that runs, by the name that `features` gives it."""
        layers = [layer for layer in self.encoder for _ in range(self.repeats)]
        return {f"encoder_{index}/self_attention": layer.heads for index, layer in enumerate(layers)}

    def with_units(self, units: Mapping[str, int]) -> "BertConfig":
        """Returns the same config with the sizes that `units` gives, in the words of the method `units`."""
        sizes = {**self.units(), **units}
        layers = range(len(self.encoder))
        encoder = [LayerSize(sizes[f"encoder_{i}/self_attention"], sizes[f"encoder_{i}/feed_forward"]) for i in layers]
        return replace(self, encoder=tuple(encoder))

    def to_json(self) -> dict[str, Any]:
        """Returns the config as plain data."""
        return {**asdict(self), "encoder": [asdict(layer) for layer in self.encoder]}

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> "BertConfig":
        """Reads what `to_json` wrote.

        Raises:
            ValueError: If a field is missing, unknown, or out of range.
        """
        known = set(cls.__dataclass_fields__)
        missing = sorted({"vocabulary", "classes", "width", "head_size", "encoder"} - set(data))
        unknown = sorted(set(data) - known)
        if missing or unknown:
            named = f"{', '.join(missing)} missing" if missing else f"{', '.join(unknown)} unknown"
            raise ValueError(f"BERT config: {named}; known are {', '.join(sorted(known))}")
        return cls(**{**data, "encoder": tuple(LayerSize(**size) for size in data["encoder"])})

    @classmethod
    def uniform(
        cls, *, width: int, heads: int, feed_forward: int, layers: int, groups: int | None = None, **others: Any
    ) -> "BertConfig":
        """Returns a config whose layers are all of one size, with `width / heads` as the size of a head.

        Args:
            width: Size of the residual stream.
            heads: Attention heads of each layer.
            feed_forward: Hidden units of each layer.
            layers: How many layers run.
            groups: How many of them have weights of their own; all if None.
            **others: Further fields of this class.

        Raises:
            ValueError: If the heads do not divide the width, the groups not the layers, or a size is out of range.
        """
        if heads < 1 or width % heads:
            raise ValueError(f"BERT: {heads} heads do not divide the width {width}; choose a divisor of it")
        own = layers if groups is None else groups
        if own < 1 or layers % own:
            raise ValueError(f"BERT: {own} groups do not divide {layers} layers; choose a divisor of it")
        return cls(
            width=width,
            head_size=width // heads,
            encoder=(LayerSize(heads, feed_forward),) * own,
            repeats=layers // own,
            **others,
        )
