"""The compiled library is taken only if it is the one that the Python side was written for."""

import re
import subprocess

import pytest

from optops.kernels import KernelsUnavailableError, library

STAND_IN = "int {name}(void) {{ return {value}; }}\n"


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Puts a library with these functions, which return numbers, in the place of the compiled one."""

    def built(functions):
        source, path = tmp_path / "library.c", tmp_path / "library.so"
        source.write_text("".join(STAND_IN.format(name=name, value=value) for name, value in functions.items()))
        subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source], check=True)
        monkeypatch.setattr(library, "LIBRARY", path)
        return path

    library.library.cache_clear()
    yield built
    library.library.cache_clear()


@pytest.mark.parametrize(
    "functions",
    [
        {},
        {"optops_isa": 0, "optops_interface": library.INTERFACE},
        {**dict.fromkeys(library.FUNCTIONS, 0), "optops_interface": library.INTERFACE + 1},
    ],
    ids=["without functions", "with a few of them", "with functions that take something else"],
)
def test_a_library_that_was_built_from_other_sources_is_not_taken(build, functions):
    path = build(functions)
    with pytest.raises(KernelsUnavailableError, match=f"{re.escape(str(path))} was built from other sources"):
        library.library()
