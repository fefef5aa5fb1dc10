"""A whole encoder layer: attention and hidden units, each with a residual sum and a norm after it or before it."""

from dataclasses import dataclass

from optops.graph.optimizer.graph import Graph, producer_of
from optops.graph.optimizer.patterns.activation import activation_at
from optops.graph.optimizer.patterns.attention import Attention, attentions
from optops.graph.optimizer.patterns.layer_norm import ENDS, Norm, norm_at
from optops.graph.optimizer.patterns.product import Product, product_at
from optops.graph.optimizer.rewriting import Context
from optops.graph.optimizer.rows import rows_of

NAME = "encoder layer"


@dataclass(frozen=True)
class Layer:
    """One encoder layer.

    Attributes:
        source: Tensor whose rows it reads.
        result: Tensor that it makes.
        attention: With its four products.
        attention_norm: Before the attention, or after it.
        feed_forward_norm: Before the hidden units, or after them.
        expand: To the hidden units.
        contract: Back.
        activation: Of the hidden units.
        norm_first: Whether the norms come before.
        nodes: That make it.
    """

    source: str
    result: str
    attention: Attention
    attention_norm: Norm
    feed_forward_norm: Norm
    expand: Product
    contract: Product
    activation: str
    norm_first: bool
    nodes: tuple[str, ...]


class Parts:
    """Finds the parts of layers in a graph, each once.

    Args:
        graph: Must not change meanwhile.
        context: Gets what was left alone.
    """

    def __init__(self, graph: Graph, context: Context) -> None:
        self.graph, self.context = graph, context
        self._norms: dict[str, Norm | None] = {}
        self._nearly_norms = Context()
        products = [each for name in graph.nodes if (each := product_at(graph, f"{name}:0")) is not None]
        # With a bias before without one: the later of two with the same source makes the result.
        bare = {each.source: each for each in products if not each.biased}
        self.attentions = attentions(
            graph, context, list((bare | {e.source: e for e in products if e.biased}).values())
        )

    def norm(self, tensor: str) -> Norm | None:
        """Returns the norm that makes the rows of a tensor."""
        tensor = rows_of(self.graph, tensor)
        if tensor not in self._norms:
            self._norms[tensor] = norm_at(self.graph, tensor, self._nearly_norms)
        return self._norms[tensor]

    def report_norms(self) -> None:
        """Reports what is nearly a norm, and no part of one."""
        inside = {name for norm in self._norms.values() if norm for name in norm.nodes}
        for miss in self._nearly_norms.near_misses:
            if producer_of(miss.node) not in inside:
                self.context.left_alone(miss.pattern, miss.node, miss.reason)

    def attention(self, tensor: str) -> Attention | None:
        """Returns the attention whose output product makes the rows of a tensor."""
        product = product_at(self.graph, tensor)
        return None if product is None else self.attentions.get(product.output)

    def summands(self, tensor: str) -> list[tuple[str, str]]:
        """Returns both orders of the two tensors whose sum a tensor is; none if it is no sum."""
        node = self.graph.producer(rows_of(self.graph, tensor))
        if node.op not in ("AddV2", "Add"):
            return []
        return [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])]


@dataclass(frozen=True)
class FeedForward:
    """`contract(activation(expand(source)))`."""

    expand: Product
    contract: Product
    activation: str
    nodes: tuple[str, ...]


def layers(graph: Graph, context: Context) -> list[Layer]:
    """Returns the encoder layers of a graph; attentions that are in none are reported."""
    parts = Parts(graph, context)
    if not parts.attentions:
        return []
    found = []
    for name, node in graph.nodes.items():
        if node.op in ENDS:
            layer = _norm_last(parts, f"{name}:0") or _norm_first(parts, f"{name}:0")
            if layer is not None:
                found.append(layer)
    parts.report_norms()
    inside = {layer.attention.result for layer in found}
    for attention in parts.attentions.values():
        if attention.result not in inside:
            context.left_alone(NAME, attention.result, "no residual sum, norm and hidden units follow this attention")
    return found


def _norm_last(parts: Parts, tensor: str) -> Layer | None:
    last = parts.norm(tensor)
    if last is None or last.output != tensor:
        return None
    for branch, residual in parts.summands(last.source):
        hidden = _feed_forward(parts, branch)
        norm = parts.norm(residual)
        if hidden is None or norm is None or not _same(parts, hidden.expand.source, residual):
            continue
        for attended, before in parts.summands(norm.source):
            attention = parts.attention(attended)
            if attention is not None and _same(parts, attention.source, before):
                sums = (_producer(parts, last.source), _producer(parts, norm.source))
                nodes = (*last.nodes, *hidden.nodes, *norm.nodes, *attention.nodes, *sums)
                return Layer(
                    attention.source,
                    tensor,
                    attention,
                    norm,
                    last,
                    hidden.expand,
                    hidden.contract,
                    hidden.activation,
                    False,
                    tuple(dict.fromkeys(nodes)),
                )
    return None


def _norm_first(parts: Parts, tensor: str) -> Layer | None:
    for branch, residual in parts.summands(tensor):
        hidden = _feed_forward(parts, branch)
        norm = None if hidden is None else parts.norm(hidden.expand.source)
        if hidden is None or norm is None or not _same(parts, norm.source, residual):
            continue
        for attended, before in parts.summands(residual):
            attention = parts.attention(attended)
            first = None if attention is None else parts.norm(attention.source)
            if attention is not None and first is not None and _same(parts, first.source, before):
                sums = (_producer(parts, tensor), _producer(parts, residual))
                nodes = (*hidden.nodes, *norm.nodes, *first.nodes, *attention.nodes, *sums)
                return Layer(
                    rows_of(parts.graph, before),
                    tensor,
                    attention,
                    first,
                    norm,
                    hidden.expand,
                    hidden.contract,
                    hidden.activation,
                    True,
                    tuple(dict.fromkeys(nodes)),
                )
    return None


def _feed_forward(parts: Parts, tensor: str) -> FeedForward | None:
    graph = parts.graph
    contract = product_at(graph, tensor)
    activation = None if contract is None else activation_at(graph, rows_of(graph, contract.source))
    expand = None if activation is None else product_at(graph, activation.source)
    if contract is None or activation is None or expand is None:
        return None
    nodes = (*contract.nodes, *activation.nodes, *expand.nodes)
    return FeedForward(expand, contract, activation.kind, nodes)


def _same(parts: Parts, one: str, other: str) -> bool:
    return rows_of(parts.graph, one) == rows_of(parts.graph, other)


def _producer(parts: Parts, tensor: str) -> str:
    return parts.graph.producer(rows_of(parts.graph, tensor)).name
