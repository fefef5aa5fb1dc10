"""The library passes its own tests built with sanitizers, and built as for a processor that is not x86-64."""

import shutil
import subprocess
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[3] / "kernels"
OPTIONS = ["-DOPTOPS_TESTS=ON", "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON"]
BUILDS = {
    "addresses and undefined behaviour": "-DOPTOPS_SANITIZE=address,undefined",
    "threads": "-DOPTOPS_SANITIZE=thread",
    "any other processor": "-DOPTOPS_GENERIC_ONLY=ON",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="needs cmake and a C++ compiler"),
]


@pytest.mark.parametrize("build", BUILDS)
def test_the_library_passes_its_own_tests_as_built_for(build, tmp_path):
    # Out of the source folder, and without what a build in there has left.
    shutil.copytree(KERNELS, tmp_path / "kernels", ignore=shutil.ignore_patterns("CMakeCache.txt", "CMakeFiles"))
    configure = ["cmake", "-S", tmp_path / "kernels", "-B", tmp_path / "build", *OPTIONS, BUILDS[build]]
    test = ["ctest", "--test-dir", tmp_path / "build", "--output-on-failure"]
    for command in (configure, ["cmake", "--build", tmp_path / "build", "--parallel", "2"], test):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "unexpected memory mapping" in done.stdout + done.stderr:
            pytest.skip("this kernel lays out memory in a way that gcc's thread sanitizer does not know")
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "runtime error" not in done.stdout
    assert "100% tests passed" in done.stdout
