"""Packed weights outlive whoever computes with them, and go wherever Python objects go."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from optops.kernels import PackedProduct
from optops.kernels.arrays import bytes_at

X = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
COMPUTE_AT_EXIT = """
import atexit
import numpy as np
products = []
atexit.register(lambda: print(products[0](np.ones((1, 2048), np.float32))[0, 0]))
from optops.kernels import PackedProduct
products.append(PackedProduct(np.ones((2048, 2048), np.float32)))
"""
COMPUTE_ELSEWHERE = """
import pickle, sys
product, x = pickle.load(sys.stdin.buffer)
pickle.dump(product(x), sys.stdout.buffer)
"""


def make_product():
    random = np.random.default_rng(1)
    return PackedProduct(random.normal(size=(64, 30)).astype(np.float32), random.normal(size=30).astype(np.float32))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda product: pickle.loads(pickle.dumps(product))])
def test_a_copy_computes_the_same_when_the_original_is_gone(duplicate):
    product = make_product()
    expected = product(X)
    product = duplicate(product)
    others = [make_product() for _ in range(8)]  # these take the memory of what was freed
    np.testing.assert_array_equal(product(X), expected)
    np.testing.assert_array_equal(product.to_bytes(), others[0].to_bytes())


def test_a_block_is_used_where_it_lies_and_weights_are_there_once(resident):
    block = PackedProduct(np.ones((4096, 4096), np.float32)).to_bytes()
    before = resident()
    product = PackedProduct.from_bytes(block)
    assert resident() - before < block.size / 4
    apart = block.tobytes()  # which does not start on a cache line
    del product, block
    opened = PackedProduct.from_bytes(apart)
    del apart
    assert (opened(np.ones((1, 4096), np.float32)) == 4096).all()
    assert resident() - before < opened.size_bytes / 4


def test_a_pickled_product_computes_the_same_in_another_process():
    product = make_product()
    command = [sys.executable, "-c", COMPUTE_ELSEWHERE]
    done = subprocess.run(command, input=pickle.dumps((product, X)), capture_output=True, check=True)
    np.testing.assert_array_equal(pickle.loads(done.stdout), product(X))


def test_weights_are_there_for_whoever_computes_while_the_interpreter_ends():
    command = [sys.executable, "-c", COMPUTE_AT_EXIT]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "2048.0\n"


def test_blocks_of_more_than_two_gigabytes_are_whole():
    large = np.zeros((1 << 32) + 5, np.uint8)  # which takes no memory before it is written
    large[-1] = 7
    found = bytes_at(large.ctypes.data, large.size)
    assert found.shape == large.shape
    assert found[-1] == 7
