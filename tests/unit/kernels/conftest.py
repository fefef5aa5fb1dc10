"""Runs operators in a process of their own under a forced instruction set: the library chooses once per process.

It has three threads there, as the code asks for, on fewer processors as well.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optops.kernels import instruction_sets

CHILD = """
import sys, numpy as np
from optops.kernels import instruction_set
arrays, found = dict(np.load(sys.argv[1])), {"isa": np.array(instruction_set())}
exec(sys.argv[3])
np.savez(sys.argv[2], **found)
"""


@pytest.fixture
def resident():
    """Says how many bytes of memory this process has."""
    return lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="session", params=instruction_sets())
def isa(request):
    """Each instruction set that this processor has."""
    return request.param


@pytest.fixture(scope="session")
def run_under(tmp_path_factory):
    """Runs code, which reads `arrays` and fills `found`, under an instruction set; gives what it found."""

    def run(isa, code, arrays):
        folder = tmp_path_factory.mktemp(isa)
        np.savez(folder / "arrays.npz", **arrays)
        command = [sys.executable, "-c", CHILD, folder / "arrays.npz", folder / "found.npz", code]
        subprocess.run(command, check=True, env={**os.environ, "OPTOPS_ISA": isa, "OPTOPS_THREADS": "3"})
        found = dict(np.load(folder / "found.npz"))
        assert str(found.pop("isa")) == isa
        return found

    return run
