"""Arrays come out as they went in, from memory and from the disk, and leave nothing behind."""

import errno
import os

import numpy as np
import pytest

from optops.workloads import array_store
from optops.workloads.array_store import ArrayStore


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("OPTOPS_HOME", str(tmp_path))
    monkeypatch.setattr(array_store, "SEGMENT_BYTES", 4096)
    return tmp_path


def test_arrays_of_any_type_and_size_come_out_as_they_went_in(home):
    random = np.random.default_rng(1)
    shapes = [(7, 5), (1, 1), (40, 30), (100, 90, 3), (0, 4)]
    given = [
        random.normal(size=shape).astype(dtype) for shape in shapes for dtype in (np.float16, np.float64, np.uint8)
    ]
    store = ArrayStore(100)
    for array, kept in zip(given, [store.keep(array) for array in given], strict=True):
        assert kept.dtype == array.dtype
        np.testing.assert_array_equal(kept, array)
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_what_fits_stays_the_array_that_it_is():
    store = ArrayStore(100)
    first, second = np.zeros(60, np.uint8), np.zeros(60, np.uint8)
    assert store.keep(first) is first
    assert store.keep(second) is not second


def test_a_full_disk_is_an_error_that_says_where(home, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match=rf"need another 0 MB in {home}/work \(No space left on device\); make room"):
        ArrayStore(0).keep(np.zeros(60, np.uint8))
