from pathlib import Path

import numpy as np
import pytest

from optops.compression import follow_channels, prune_channels
from optops.compression.pruning.channels.prune import least_important
from optops.compression.pruning.channels.rebuild import mask_channels
from optops.models.keras import keras
from optops.models.super_resolution import UpscalerSizes, build_upscaler, take_blocks

RANDOM = np.random.default_rng(3)
SIZES = [
    UpscalerSizes(scale=2, blocks=2, channels=16),
    UpscalerSizes(scale=3, blocks=1, channels=8, colours=3, residual_scaling=0.1),
    UpscalerSizes(scale=4, blocks=1, channels=8, batch_norm=False),
]


def images(sizes, height=9, width=7):
    return RANDOM.random((2, height, width, sizes.colours), np.float32)


def stirred(model):
    """Gives every weight, statistics too, some value, as training does."""
    random = np.random.default_rng(4)
    for weight in model.weights:
        noise = random.normal(0, 0.1, weight.shape)
        weight.assign(np.abs(noise) + 0.5 if "norm" in weight.name and "beta" not in weight.name else noise)
    return model


@pytest.mark.parametrize("sizes", SIZES)
def test_a_fresh_network_repeats_pixels_but_for_little(sizes):
    low = images(sizes)
    high = build_upscaler(sizes)(low).numpy()
    repeated = low.repeat(sizes.scale, axis=1).repeat(sizes.scale, axis=2)
    assert high.shape == repeated.shape
    assert 0 < np.abs(high - repeated).max() < 0.1


@pytest.mark.parametrize("sizes", SIZES)
def test_a_pixel_depends_on_those_within_reach_and_on_no_others(sizes):
    model = stirred(build_upscaler(sizes))
    side = 2 * sizes.reach + 9
    low = images(sizes, side, side)[:1]
    other = low.copy()
    other[0, 0] += 1
    changed = np.abs(model(low).numpy() - model(other).numpy())[0].max(axis=(1, 2))
    last = np.flatnonzero(changed).max() // sizes.scale
    # What passes through every convolution may be too little for float32 to tell.
    assert sizes.reach - 1 <= last <= sizes.reach


@pytest.mark.parametrize("sizes", SIZES)
def test_a_network_is_built_again_from_its_config_without_code(sizes):
    model = stirred(build_upscaler(sizes))
    again = keras.models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    assert not [layer for layer in model.layers if type(layer).__name__ == "Lambda"]
    low = images(sizes)
    np.testing.assert_array_equal(again(low).numpy(), model(low).numpy())


@pytest.mark.parametrize("sizes", SIZES[:1])
def test_pruned_channels_go_through_the_whole_chain_of_sums(sizes):
    model = stirred(build_upscaler(sizes))
    graph = follow_channels(model)
    # One group along the sums of all blocks, one within each block.
    assert len(graph.groups) == 1 + sizes.blocks
    removed = least_important(graph, 0.5)
    smaller = prune_channels(model, 0.5)
    assert smaller.count_params() < 0.4 * model.count_params()
    masked = stirred(build_upscaler(sizes))
    mask_channels(follow_channels(masked), removed)
    low = images(sizes)
    np.testing.assert_allclose(smaller(low).numpy(), masked(low).numpy(), atol=1e-5)


def test_a_student_takes_evenly_spaced_blocks():
    teacher = stirred(build_upscaler(UpscalerSizes(scale=2, blocks=5, channels=8)))
    student = build_upscaler(UpscalerSizes(scale=2, blocks=3, channels=8))
    take_blocks(student, teacher)
    for mine, theirs in ((0, 0), (1, 2), (2, 4)):
        for part in ("first", "first_norm", "second", "second_norm"):
            ours, origin = (m.get_layer(f"block_{n}_{part}") for m, n in ((student, mine), (teacher, theirs)))
            for one, other in zip(ours.get_weights(), origin.get_weights(), strict=True):
                np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(
        student.get_layer("sub_pixels").get_weights()[0], teacher.get_layer("sub_pixels").get_weights()[0]
    )


def test_blocks_of_other_widths_are_refused():
    with pytest.raises(ValueError, match="shape"):
        take_blocks(
            build_upscaler(UpscalerSizes(scale=2, blocks=1, channels=8)),
            build_upscaler(UpscalerSizes(scale=2, blocks=2, channels=16)),
        )


def test_the_examples_of_the_docs_run():
    page = (Path(__file__).parents[3] / "docs" / "super_resolution.md").read_text(encoding="utf-8")
    *_, parts = (block.partition("```")[0] for block in page.split("```python\n")[1:])
    of_parts: dict[str, object] = {}
    exec(compile(parts, "super_resolution.md", "exec"), of_parts)
    assert of_parts["enlarged"].shape == (1, 96, 96, 1)
