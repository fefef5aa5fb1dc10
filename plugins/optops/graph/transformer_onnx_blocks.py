"""The blocks of a Transformer as ONNX nodes: norms, products, attention, feed-forward."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count

from optops.graph.onnx_graph import OnnxGraph
from optops.graph.onnx_nodes import CONTRIB
from optops.models.transformer.config import MASKED
from optops.models.transformer.layers import NORM_EPSILON
from optops.models.transformer.weights import AttentionWeights, FeedForwardWeights, Norm, Product, by_precision, joined
from optops.precision import PrecisionPlan


@dataclass
class Blocks:
    """Appends blocks to a graph; states are two-dimensional, [rows, width].

    Attributes:
        graph: Where the nodes go.
        plan: Decides which products may be joined, and which are to be quantised later.
        head_size: Of all heads.
        epsilon: Of the norms.
        quantized: Names of the products' nodes that the plan wants in int8, and the weights each of them holds.
    """

    graph: OnnxGraph
    plan: PrecisionPlan
    head_size: int
    epsilon: float = NORM_EPSILON
    quantized: dict[str, list[str]] = field(default_factory=dict)

    def norm(self, states: str, norm: Norm) -> str:
        """Appends a layer normalisation."""
        scale, offset = self.graph.constant(norm.scale), self.graph.constant(norm.offset)
        return self.graph.add("LayerNormalization", states, scale, offset, axis=-1, epsilon=self.epsilon)

    def add_and_norm(self, states: str, added: str, norm: Norm) -> tuple[str, str]:
        """Appends a sum and its layer normalisation; returns the sum and the norm."""
        # ONNX Runtime's SkipLayerNormalization is one node, but takes several times as long as these two.
        total = self.graph.add("Add", states, added)
        return total, self.norm(total, norm)

    def product(self, states: str, parts: Sequence[Product], precision: str) -> str:
        """Appends one product that computes `parts` side by side, all of one precision."""
        kernel, bias = joined(parts)
        name = self._unused(parts[0].name.partition("/")[2].removesuffix(":0"))
        if precision == "int8":
            self.quantized[name] = [part.name for part in parts]
        summed = self.graph.add("MatMul", states, self.graph.constant(kernel), name=name)
        return self.graph.add("Add", summed, self.graph.constant(bias))

    def _unused(self, name: str) -> str:
        # A layer that runs several times has its products as often, under one name.
        used = {node.name for node in self.graph.nodes}
        again = (f"{name}_{number}" for number in count(2))
        return next(one for one in chain([name], again) if one not in used)

    def single(self, states: str, part: Product) -> str:
        """Appends one product on its own."""
        return self.product(states, [part], self.plan.parts.get(part.name, "fp32"))

    def split_products(self, states: str, parts: Sequence[Product], leading: str) -> list[str]:
        """Appends products of the same input, joined as far as the plan allows.

        Args:
            states: [batch * positions, width].
            parts: What to compute.
            leading: Name of the tensor [batch, positions].

        Returns:
            One [batch, positions, size] for each part.
        """
        results: list[str] = []
        for precision, group in by_precision(parts, self.plan):
            sizes = [part.kernel.shape[1] for part in group]
            shape = self.graph.add("Concat", leading, self.graph.ints(sum(sizes)), axis=0)
            wide = self.graph.add("Reshape", self.product(states, group, precision), shape)
            if len(sizes) == 1:
                results.append(wide)
            else:
                results += self.graph.add_many("Split", wide, self.graph.ints(*sizes), outputs=len(sizes), axis=2)
        return results

    def attention(
        self,
        queries_keys_values: Sequence[str],
        weights: AttentionWeights,
        *,
        padding_mask: str = "",
        bias: str = "",
        past: Sequence[str] = (),
    ) -> list[str]:
        """Appends attention and its output product.

        Args:
            queries_keys_values: Queries [batch, positions, size]; keys and values the same, or already split in heads,
                [batch, heads, positions, head_size].
            weights: Of the attention.
            padding_mask: int32 [batch, positions], 0 where keys are padding.
            bias: Added to the scores.
            past: Earlier keys and values, to which the new ones are appended.

        Returns:
            [batch * positions, width]; with `past` also the grown keys and values.
        """
        inputs = [*queries_keys_values, "", padding_mask, bias, *past]
        context, *grown = self.graph.add_many(
            "MultiHeadAttention",
            *inputs,
            outputs=3 if past else 1,
            domain=CONTRIB,
            num_heads=weights.heads,
            scale=1.0,
            mask_filter_value=MASKED,
        )
        flat = self.graph.add("Reshape", context, self.graph.ints(-1, weights.output.kernel.shape[0]))
        return [self.single(flat, weights.output), *grown]

    def feed_forward(self, states: str, weights: FeedForwardWeights) -> str:
        """Appends a feed-forward block."""
        return self.single(self.graph.add("Relu", self.single(states, weights.expand)), weights.contract)
