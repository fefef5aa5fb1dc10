"""`optops optimize`: rewrites a finished model, checks that it computes the same, and times both."""

import zipfile
import zlib
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
        Path | None, typer.Option(help="An .npz file with an array for each input, to check with beside random ones.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or int8, of products in optops' operators.")] = "fp32",
    kernels: Annotated[
        bool, typer.Option("--kernels/--no-kernels", help="Whether the result may need optops' operators.")
    ] = True,
) -> None:
    """Write a faster SavedModel, with a report and a picture of what was fused.

    It is checked, on random inputs and on yours, to compute the same: within 1e-4 of an output's largest value, 0.05
    in bf16 and of outputs in half precision, 0.1 in int8.
    """
    from optops.graph.optimizer.optimizer import optimize as implementation
    from optops.graph.optimizer.picture import PICTURE

    sample = None if inputs is None else _sample(inputs)
    report = implementation(source, out, inputs=sample, precision=precision, kernels=kernels)
    for line in report.lines():
        typer.echo(line)
    typer.echo(f"written to {out}, with optops_report.json and {PICTURE}")


def _sample(path: Path) -> "dict[str, np.ndarray]":
    import numpy as np

    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.ndarray):
                return {name: arrays[name] for name in arrays.files}
        reason = "it has one array without a name"
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error)
    raise CommandError(f"{path} is no .npz file of plain arrays: {reason}; write it with `numpy.savez`")
