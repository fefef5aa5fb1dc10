"""Runs products in a process of their own under a forced instruction set: the library chooses once per process."""

import os
import subprocess
import sys

import numpy as np
import pytest

from optops.kernels import instruction_sets

CHILD = """
import sys, numpy as np
from optops.kernels import PackedProduct, instruction_set
cases = dict(np.load(sys.argv[1]))
found = {"isa": np.array(instruction_set())}
for name in {key.split("/")[0] for key in cases}:
    precision, activation = str(cases[f"{name}/precision"]), str(cases[f"{name}/activation"])
    x, weights, bias, residual = (cases[f"{name}/{part}"] for part in ("x", "weights", "bias", "residual"))
    product = PackedProduct(weights, bias, precision)
    for threads in (1, 2):
        found[f"{name}/{threads}"] = product(x, activation=activation, residual=residual, threads=threads)
    found[f"{name}/rows"] = np.stack([product(row, activation=activation, residual=r) for row, r in zip(x, residual)])
np.savez(sys.argv[2], **found)
"""


@pytest.fixture(scope="session", params=instruction_sets())
def isa(request):
    """Each instruction set that this processor has."""
    return request.param


@pytest.fixture(scope="session")
def run_cases(tmp_path_factory):
    """Runs cases under an instruction set; gives the outputs on one thread, on two, and row by row."""

    def run(isa, cases):
        folder = tmp_path_factory.mktemp(isa)
        arrays = {f"{name}/{part}": value for name, case in cases.items() for part, value in case.items()}
        np.savez(folder / "cases.npz", **arrays)
        command = [sys.executable, "-c", CHILD, folder / "cases.npz", folder / "found.npz"]
        subprocess.run(command, check=True, env={**os.environ, "OPTOPS_ISA": isa})
        found = dict(np.load(folder / "found.npz"))
        assert str(found.pop("isa")) == isa
        return found

    return run
