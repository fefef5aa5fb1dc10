"""Images are decoded once as far as memory goes, and come out the same either way."""

from collections import Counter

import numpy as np
import pytest

from optops.workloads.image_cache import ImageCache

SIDE = 4
BYTES = SIDE * SIDE * 3


def cache_of(most_images):
    """A cache, and how often each image was decoded."""
    counts = Counter()

    def decode(number):
        counts[number] += 1
        return np.full((SIDE, SIDE, 3), number, np.uint8)

    return ImageCache(decode, most_images * BYTES + 1), counts


@pytest.mark.parametrize("most_images", [0, 3, 10])
def test_each_image_comes_under_its_number_whether_it_is_kept_or_not(most_images):
    cache, _ = cache_of(most_images)
    for _ in range(2):
        assert [int(pixels[0, 0, 0]) for pixels in cache.all([5, 1, 3, 1, 7])] == [5, 1, 3, 1, 7]
        assert int(cache(3)[0, 0, 0]) == 3


def test_what_fits_is_decoded_once_and_what_does_not_each_time():
    cache, counts = cache_of(3)
    for _ in range(4):
        for number in range(5):
            cache(number)
    assert counts == {0: 1, 1: 1, 2: 1, 3: 4, 4: 4}
    cache.all(range(5))
    assert counts == {0: 1, 1: 1, 2: 1, 3: 5, 4: 5}


def test_an_image_that_can_not_be_decoded_is_an_error_of_the_call():
    def decode(number):
        raise ValueError(f"{number}.png is damaged")

    with pytest.raises(ValueError, match=r"2\.png is damaged"):
        ImageCache(decode).all([2])
