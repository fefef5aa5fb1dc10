"""`optops optimize`: rewrites a finished model, proves that it computes the same, and times both."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optops.cli.console import CommandError, explained

if TYPE_CHECKING:
    import numpy as np


@explained
def optimize(
    source: Annotated[Path, typer.Argument(help="A SavedModel, a .keras file or a frozen graph (.pb).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new SavedModel.")],
    inputs: Annotated[
        Path | None, typer.Option(help="An .npz file with an array for each input; models of text need it.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or int8, of products in optops' operators.")] = "fp32",
    kernels: Annotated[
        bool, typer.Option("--kernels/--no-kernels", help="Whether the result may need optops' operators.")
    ] = True,
) -> None:
    """Write a faster SavedModel that computes the same, with a report and a picture of what was fused."""
    from optops.graph.optimizer.optimizer import optimize as implementation
    from optops.graph.optimizer.picture import PICTURE, draw

    sample = None if inputs is None else _sample(inputs)
    report = implementation(source, out, inputs=sample, precision=precision, kernels=kernels)
    draw(report, out / PICTURE)
    for line in report.lines():
        typer.echo(line)
    typer.echo(f"written to {out}, with optops_report.json and {PICTURE}")


def _sample(path: Path) -> "dict[str, np.ndarray]":
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} is no .npz file of plain arrays: {error}; write it with `numpy.savez`") from error
