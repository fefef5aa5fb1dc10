"""The sizes of a Transformer, layer by layer, and the token ids that have a meaning."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from optops.models.token_ids import SPECIAL_IDS

DEFAULT_MAX_POSITIONS = 512
MASKED = -1e9
"""Stands for "never" among logits."""
RECIPE_KEYS = frozenset({"vocabulary", "width", "heads", "feed_forward", "encoder_layers", "decoder_layers"})


@dataclass(frozen=True)
class LayerSize:
    """Sizes of one encoder layer.

    Attributes:
        heads: Attention heads.
        feed_forward: Hidden units of the feed-forward block.
    """

    heads: int
    feed_forward: int


@dataclass(frozen=True)
class DecoderLayerSize:
    """Sizes of one decoder layer.

    Attributes:
        self_heads: Heads of the attention over what has been written so far.
        cross_heads: Heads of the attention over the source.
        feed_forward: Hidden units of the feed-forward block.
    """

    self_heads: int
    cross_heads: int
    feed_forward: int


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of an encoder-decoder Transformer; each layer has its own, so that a pruned one really is smaller.

    Attributes:
        vocabulary: Number of token ids, shared by source and target, the four special ids included.
        width: Size of the residual stream; even, because of the sinusoidal positions.
        head_size: Size of one attention head, the same everywhere.
        encoder: One size per encoder layer.
        decoder: One size per decoder layer.
        max_positions: Longest sequence, in ids.
        dropout: Rate on embeddings and on what each block adds to the residual stream.
        output_vocabulary: Ids that can be written: those below it. All if None; fewer where the target language uses
            only the first part of the vocabulary.
    """

    vocabulary: int
    width: int
    head_size: int
    encoder: tuple[LayerSize, ...]
    decoder: tuple[DecoderLayerSize, ...]
    max_positions: int = DEFAULT_MAX_POSITIONS
    dropout: float = 0.1
    output_vocabulary: int | None = None

    def __post_init__(self) -> None:
        sizes = {"width": self.width, "head_size": self.head_size, "max_positions": self.max_positions} | self.units()
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"Transformer: {name} is {size}; it must be at least 1")
        if self.vocabulary <= SPECIAL_IDS:
            raise ValueError(
                f"Transformer: vocabulary is {self.vocabulary}; it must exceed the {SPECIAL_IDS} ids "
                "of padding, begin, end and unknown"
            )
        if not SPECIAL_IDS < self.outputs <= self.vocabulary:
            raise ValueError(
                f"Transformer: output_vocabulary is {self.output_vocabulary}; it must exceed {SPECIAL_IDS} and be at "
                f"most the vocabulary, {self.vocabulary}"
            )
        if self.width % 2:
            raise ValueError(f"Transformer: width is {self.width}; it must be even, for the sinusoidal positions")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"Transformer: dropout is {self.dropout}; it must be at least 0 and below 1")
        for name, layers in (("encoder", self.encoder), ("decoder", self.decoder)):
            if not layers:
                raise ValueError(f"Transformer: {name} has no layers; it needs at least one")

    @property
    def outputs(self) -> int:
        """How many ids can be written; the width of the logits."""
        return self.vocabulary if self.output_vocabulary is None else self.output_vocabulary

    def units(self) -> dict[str, int]:
        """Returns how many units each prunable group has: heads of an attention, hidden units of a feed-forward block.

        The names, for example `decoder_0/cross_attention`, also name gates and what slicing keeps.
        """
        units: dict[str, int] = {}
        for index, layer in enumerate(self.encoder):
            units[f"encoder_{index}/self_attention"] = layer.heads
            units[f"encoder_{index}/feed_forward"] = layer.feed_forward
        for index, size in enumerate(self.decoder):
            units[f"decoder_{index}/self_attention"] = size.self_heads
            units[f"decoder_{index}/cross_attention"] = size.cross_heads
            units[f"decoder_{index}/feed_forward"] = size.feed_forward
        return units

    def stacks(self) -> dict[str, int]:
        """Returns how many layers there are, by the name of the stack."""
        return {"encoder": len(self.encoder), "decoder": len(self.decoder)}

    def attention_heads(self) -> dict[str, int]:
        """Returns the heads of each attention, by name."""
        return {name: count for name, count in self.units().items() if name.endswith("attention")}

    def with_units(self, units: Mapping[str, int]) -> "TransformerConfig":
        """Returns the same config with the sizes that `units` gives, in the words of the method `units`."""
        sizes = {**self.units(), **units}
        data = self.to_json()
        for index in range(len(self.encoder)):
            prefix = f"encoder_{index}"
            data["encoder"][index] = {
                "heads": sizes[f"{prefix}/self_attention"],
                "feed_forward": sizes[f"{prefix}/feed_forward"],
            }
        for index in range(len(self.decoder)):
            prefix = f"decoder_{index}"
            data["decoder"][index] = {
                "self_heads": sizes[f"{prefix}/self_attention"],
                "cross_heads": sizes[f"{prefix}/cross_attention"],
                "feed_forward": sizes[f"{prefix}/feed_forward"],
            }
        return TransformerConfig.from_mapping(data)

    def to_json(self) -> dict[str, Any]:
        """Returns the config as plain data, in the form that names every layer."""
        return {
            **asdict(self),
            "encoder": [asdict(e) for e in self.encoder],
            "decoder": [asdict(d) for d in self.decoder],
        }

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> "TransformerConfig":
        """Reads what `to_json` wrote, or the form of recipes: equal layers, counted.

        Args:
            data: The fields of this class; or `vocabulary`, `width`, `heads`, `feed_forward`, `encoder_layers`,
                `decoder_layers` and, if wanted, `dropout`, `max_positions` and `output_vocabulary`.

        Raises:
            ValueError: If a field is missing, unknown, or out of range.
        """
        if "encoder_layers" in data or "heads" in data:
            return cls.uniform(**_checked(data, RECIPE_KEYS))
        fields = _checked(data, frozenset({"vocabulary", "width", "head_size", "encoder", "decoder"}))
        fields["encoder"] = tuple(LayerSize(**size) for size in fields["encoder"])
        fields["decoder"] = tuple(DecoderLayerSize(**size) for size in fields["decoder"])
        return cls(**fields)

    @classmethod
    def uniform(
        cls,
        *,
        vocabulary: int,
        width: int,
        heads: int,
        feed_forward: int,
        encoder_layers: int,
        decoder_layers: int,
        dropout: float = 0.1,
        max_positions: int = DEFAULT_MAX_POSITIONS,
        output_vocabulary: int | None = None,
    ) -> "TransformerConfig":
        """Returns a config whose layers are all of one size, with `width / heads` as the size of a head.

        Raises:
            ValueError: If the heads do not divide the width, or a size is out of range.
        """
        if heads < 1 or width % heads:
            raise ValueError(f"Transformer: {heads} heads do not divide the width {width}; choose a divisor of it")
        return cls(
            vocabulary=vocabulary,
            width=width,
            head_size=width // heads,
            encoder=(LayerSize(heads, feed_forward),) * encoder_layers,
            decoder=(DecoderLayerSize(heads, heads, feed_forward),) * decoder_layers,
            max_positions=max_positions,
            dropout=dropout,
            output_vocabulary=output_vocabulary,
        )


def _checked(data: Mapping[str, Any], required: frozenset[str]) -> dict[str, Any]:
    known = required | {"dropout", "max_positions", "output_vocabulary"}
    missing, unknown = sorted(required - set(data)), sorted(set(data) - known)
    if missing:
        raise ValueError(
            f"Transformer config: {', '.join(missing)} missing; required are {', '.join(sorted(required))}"
        )
    if unknown:
        raise ValueError(f"Transformer config: {', '.join(unknown)} unknown; known are {', '.join(sorted(known))}")
    return dict(data)
