"""A picture of what was fused: the frozen graph from its inputs to its outputs, coloured by pattern."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from optops.graph.optimizer.report import Report, SignatureReport

PICTURE = "optops_fused.png"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
REST = "#D9D9D9"
DPI = 150


def draw(report: Report, path: Path) -> None:
    """Draws one band for each signature; a block is a stretch of nodes that one rewrite stands for."""
    patterns = list(dict.fromkeys(pattern for each in report.signatures for pattern in each.counts()))
    colours = {pattern: PALETTE[index % len(PALETTE)] for index, pattern in enumerate(patterns)}
    figure = Figure(figsize=(10, 1.6 + 1.1 * len(report.signatures)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row, signature in enumerate(report.signatures):
        _band(axes, row, signature, colours)
    axes.set_yticks(range(len(report.signatures)), [each.name for each in report.signatures])
    axes.set_ylim(len(report.signatures) - 0.4, -0.6)
    axes.set_xlim(0, max(max((len(each.order) for each in report.signatures), default=1), 1))
    axes.set_xlabel("nodes of the frozen graph, inputs first")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(_title(report), loc="left", fontsize=10)
    handles = [Patch(color=colour, label=pattern) for pattern, colour in colours.items()]
    handles.append(Patch(color=REST, label="left as it was, or tidied"))
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=DPI)


def _title(report: Report) -> str:
    parts = [f"{each.name}: {each.nodes_before} nodes became {each.nodes_after}" for each in report.signatures[:3]]
    return f"{Path(report.source).name}, {report.precision}. " + "; ".join(parts)


def _band(axes: object, row: int, signature: SignatureReport, colours: dict[str, str]) -> None:
    pattern_of = {name: str(each["pattern"]) for each in signature.rewrites for name in each["before"]}  # type: ignore[attr-defined]
    place_of = {name: index for index, each in enumerate(signature.rewrites) for name in each["before"]}  # type: ignore[attr-defined]
    start = 0
    keys = [place_of.get(name) for name in signature.order]
    for index in range(1, len(keys) + 1):
        if index == len(keys) or keys[index] != keys[start]:
            pattern = pattern_of.get(signature.order[start])
            colour = REST if pattern is None else colours[pattern]
            block = Rectangle(
                (start, row - 0.35), index - start, 0.7, facecolor=colour, edgecolor="white", linewidth=0.3
            )
            axes.add_patch(block)  # type: ignore[attr-defined]
            start = index
