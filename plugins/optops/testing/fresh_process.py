"""Runs an executable once in a process that knows nothing else: `python -m optops.testing.fresh_process F IN OUT N`."""

import sys
from pathlib import Path

import numpy as np

from optops.runtimes.base import load_executable


def main() -> None:
    """Reads inputs from IN, calls the executable in F with N threads, writes outputs to OUT (.npz files)."""
    folder, given, answered, threads = sys.argv[1:]
    executable = load_executable(Path(folder), int(threads))
    with np.load(given, allow_pickle=False) as archive:
        inputs = {name: archive[name] for name in archive.files}
    np.savez(answered, **executable(inputs))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
