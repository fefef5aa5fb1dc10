"""Names the examples whose file is not there."""

from pathlib import Path

import pandas as pd

from optops.workloads.images import is_file


def find_missing_files(paths: "pd.Series[str]") -> "pd.Series[str]":
    """Returns for each path that names no file, and no other, the reason in words."""
    missing = paths[[not is_file(Path(path)) for path in paths]]
    return missing.astype(str) + " does not exist"
