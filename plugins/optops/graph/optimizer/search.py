"""Applies patterns to one graph, compares each result with the original, and takes back what differs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

from optops.graph.optimizer.graph import Graph, Node
from optops.graph.optimizer.parity import Difference
from optops.graph.optimizer.report import SignatureReport
from optops.graph.optimizer.rewriting import Context, Pattern, Place, Rewrite, apply_place

ROUNDS = 100
Check = Callable[[Graph], Difference]


def rewrite(graph: Graph, patterns: Sequence[Pattern], context: Context, check: Check, report: SignatureReport) -> None:
    """Applies each pattern wherever it is found.

    Args:
        graph: Changed.
        patterns: In this order.
        context: For the patterns.
        check: Compares a graph with the original.
        report: Gets what was rewritten, rolled back and left alone.
    """
    for pattern in patterns:
        before = graph.copy()
        made = _everywhere(graph, pattern, context)
        if made and not check(graph).fits:
            graph.restore(before)
            made = _one_by_one(graph, pattern, context, check, report)
        if pattern.reported:
            report.rewrites += [asdict(each) for each in made]
        elif made:
            report.tidied[pattern.name] = report.tidied.get(pattern.name, 0) + len(made)


def _everywhere(graph: Graph, pattern: Pattern, context: Context) -> list[Rewrite]:
    made: list[Rewrite] = []
    for _ in range(ROUNDS):
        places, found_in = list(_places(graph, pattern, context)), dict(graph.nodes)
        now = [each for place in places if (each := _apply(graph, pattern, place, found_in, context))]
        graph.prune()
        made += now
        if not now:
            break
    return made


def _places(graph: Graph, pattern: Pattern, context: Context) -> Iterator[Place]:
    try:
        yield from pattern.find(graph, context)
    except Exception as error:  # noqa: BLE001 - a pattern that can not read a graph finds nothing in it
        reason = f"the search stopped: {type(error).__name__}: {str(error)[:300]}"
        context.left_alone(pattern.name, "the rest of the graph", reason)


def _one_by_one(
    graph: Graph, pattern: Pattern, context: Context, check: Check, report: SignatureReport
) -> list[Rewrite]:
    made: list[Rewrite] = []
    refused: set[str] = set()
    while (place := _next(graph, pattern, context, refused)) is not None:
        before = graph.copy()
        each = _apply(graph, pattern, place, graph.nodes, context)
        graph.prune()
        if each is not None:
            difference = check(graph)
            if difference.fits:
                made.append(each)
                continue
            report.rolled_back.append({"pattern": pattern.name, "tensor": place.tensor, "reason": difference.reason})
        graph.restore(before)
        refused.add(place.tensor)
    return made


def _apply(
    graph: Graph, pattern: Pattern, place: Place, found_in: Mapping[str, Node], context: Context
) -> Rewrite | None:
    try:
        return apply_place(graph, pattern, place, found_in)
    except Exception as error:  # noqa: BLE001 - what can not be written stays; nothing reads what was added
        context.left_alone(pattern.name, place.tensor, f"{type(error).__name__}: {str(error)[:300]}")
        return None


def _next(graph: Graph, pattern: Pattern, context: Context, refused: set[str]) -> Place | None:
    return next((place for place in _places(graph, pattern, context) if place.tensor not in refused), None)
