"""What the optimiser did, as data and as lines for people."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPORT = "optops_report.json"


@dataclass
class SignatureReport:
    """What became of one signature.

    Attributes:
        name: Of the signature.
        level: What was kept: `products`, `kernels`, `plain`, `frozen`, or `original`.
        nodes_before: Of the frozen graph; 0 where there is none.
        nodes_after: Of what was written.
        rewrites: Pattern, replaced tensor, nodes before and after, weights, for each.
        tidied: How often the graph was tidied, by pattern.
        rolled_back: Pattern, tensor and reason of what did not compute the same.
        left_alone: Pattern, node and reason of what looked like a pattern.
        notes: Why a signature stayed as it was, or fell back.
        difference: Largest, as a share of the output's largest value.
        samples: Shapes of the inputs on which that was seen.
        milliseconds: Of a call by level, timed in turn: the geometric mean over several inputs of each one's median.
        speed_up: Of what was kept.
        order: Nodes of the frozen graph that are no constants, inputs first.
    """

    name: str
    level: str = "original"
    nodes_before: int = 0
    nodes_after: int = 0
    rewrites: list[dict[str, object]] = field(default_factory=list)
    tidied: dict[str, int] = field(default_factory=dict)
    rolled_back: list[dict[str, str]] = field(default_factory=list)
    left_alone: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    difference: float = 0.0
    samples: list[dict[str, list[int]]] = field(default_factory=list)
    milliseconds: dict[str, float] = field(default_factory=dict)
    speed_up: float = 1.0
    order: list[str] = field(default_factory=list)

    def leave(self, reason: str) -> None:
        """Notes why a signature stays as it was; what was made of it counts no more."""
        self.level, self.nodes_after = "original", self.nodes_before
        self.rewrites, self.tidied, self.difference = [], {}, 0.0
        self.milliseconds, self.speed_up = {}, 1.0
        self.notes = [*self.notes, f"left as it is: {reason}"]

    def counts(self) -> dict[str, int]:
        """Returns how often each pattern was rewritten."""
        counts: dict[str, int] = {}
        for rewrite in self.rewrites:
            counts[str(rewrite["pattern"])] = counts.get(str(rewrite["pattern"]), 0) + 1
        return counts


@dataclass
class Report:
    """What became of a model.

    Attributes:
        source: What was optimised.
        precision: Of products in the operator library.
        kernels: Whether the result has operators of the library.
        signatures: One report each.
    """

    source: str
    precision: str
    kernels: bool = False
    signatures: list[SignatureReport] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Writes `optops_report.json`."""
        (folder / REPORT).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    def lines(self) -> list[str]:
        """Returns it for people."""
        lines = []
        for signature in self.signatures:
            lines += _lines(signature)
        if self.kernels:
            lines.append(
                "The result has optops' operators: call `optops.kernels.tensorflow.load_operators()` before loading it."
            )
        return lines


def _lines(report: SignatureReport) -> list[str]:
    nodes = f", {report.nodes_before} nodes became {report.nodes_after}" if report.nodes_before else ""
    lines = [f"signature {report.name}: {report.level}{nodes}"]
    lines += [f"  {pattern}: {count}" for pattern, count in report.counts().items()]
    lines += [f"  tidied, {pattern}: {count}" for pattern, count in report.tidied.items()]
    lines += [f"  rolled back: {each['pattern']} at {each['tensor']}: {each['reason']}" for each in report.rolled_back]
    lines += [f"  left alone: {each['pattern']} at {each['node']}: {each['reason']}" for each in report.left_alone]
    lines += [f"  {note}" for note in report.notes]
    if report.samples and report.level != "original":
        lines.append(f"  largest difference {report.difference:.1e} on {len(report.samples)} inputs")
    if report.milliseconds:
        times = medians(report.milliseconds)
        lines.append(f"  {times}; {report.speed_up:.2f} times as fast as the original")
    return lines


def medians(milliseconds: Mapping[str, float]) -> str:
    """Returns the medians of a call by level for people."""
    return "median of a call: " + ", ".join(f"{level} {value:.3f} ms" for level, value in milliseconds.items())
