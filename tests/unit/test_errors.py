"""Which errors need no traceback."""

from optops.errors import is_expected
from optops.recipe_file import RecipeError
from optops.stages.base import StageError
from optops.workloads.arrays.reading import ArraysError


def test_errors_of_ours_speak_for_themselves_and_those_of_libraries_do_not() -> None:
    ours = (ArraysError("x.npz holds no arrays"), RecipeError("no"), ValueError("no"), StageError("no"))
    assert all(map(is_expected, ours))
    assert not any(map(is_expected, (UnicodeDecodeError("utf-8", b"x", 0, 1, "no"), KeyError("x"), TypeError("x"))))
