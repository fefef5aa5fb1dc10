"""Which heads and units to keep: the most important across all layers, and something in every layer."""

from collections.abc import Mapping
from math import ceil

import numpy as np

from optops.compression.pruning.importance import Importance

UNIT_BLOCK = 16


def select(
    importance: Importance,
    ratio: float,
    block: int | Mapping[str, int] = 1,
    floor: float = 0.0,
    comparable: bool = False,
    whole: Mapping[str, int] | None = None,
) -> dict[str, list[int]]:
    """Returns the indices to keep in each group, sorted.

    Each group's units, most important first, are cut into blocks; blocks compete across all groups by the mean
    importance of their units. Where the scale of importance differs from layer to layer, it is divided by the norm of
    what is at least as important in the group, itself included: of what is left when its turn comes. So what is left of
    a group gains with each block that goes, and a group whose units matter alike is not taken whole while others keep
    all of theirs. The first block of each group always stays, so no group is emptied.

    Args:
        importance: Of groups of one kind: heads, feed-forward units, or channels.
        ratio: Share of the units to remove, in [0, 1); met to within a block, unless the first blocks need more.
        block: Units kept or removed together, so that what is left is a multiple of it (widths that are none are
            slow); a group whose own size is no multiple may keep its last, smaller block. One for all groups, or
            one for each.
        floor: Share of every group that stays in any case.
        comparable: Whether importance means the same in all groups, and is taken as it is.
        whole: How many units each group had before any were removed, of which `ratio` and `floor` are shares.

    Raises:
        ValueError: If the ratio is out of range.

    Source: Lee et al. 2021 (the LAMP score, here of blocks of units instead of weights); Molchanov et al. 2017, section
    2.2 (global ranking of units); Michel et al. 2019, section 4.1.
    """
    if not 0 <= ratio < 1:
        raise ValueError(f"pruning ratio is {ratio}; it must be in [0, 1)")
    sizes = whole or {name: len(values) for name, values in importance.items()}
    keep: dict[str, list[int]] = {}
    others: list[tuple[float, str, list[int]]] = []
    for name, values in importance.items():
        ranked = np.argsort(-values, kind="stable")
        size = block if isinstance(block, int) else block[name]
        blocks = [ranked[start : start + size].tolist() for start in range(0, len(ranked), size)]
        certain = max(1, ceil(floor * sizes[name] / size))
        keep[name] = [unit for units in blocks[:certain] for unit in units]
        # Of the first units of the ranking, one norm for each number of them.
        norms = np.sqrt(np.cumsum(values[ranked] ** 2))
        left = len(keep[name])
        for units in blocks[certain:]:
            left += len(units)
            scale = 1.0 if comparable else max(float(norms[left - 1]), np.finfo(np.float64).tiny)
            others.append((float(values[units].mean()) / scale, name, units))
    wanted = (1 - ratio) * sum(sizes[name] for name in importance)
    kept = sum(len(units) for units in keep.values())
    for _, name, units in sorted(others, key=lambda other: -other[0]):
        if kept + len(units) / 2 > wanted:
            break
        keep[name] = keep[name] + units
        kept += len(units)
    return {name: sorted(units) for name, units in keep.items()}


def select_by_kind(
    importance: Importance, heads: float, feed_forward: float, whole: Mapping[str, int] | None = None
) -> dict[str, list[int]]:
    """Returns the heads and the feed-forward units to keep; each kind competes only with its own.

    Args:
        importance: By the group's name, which ends in `attention` or `feed_forward`.
        heads: Share of the attention heads to remove.
        feed_forward: Share of the feed-forward units to remove; what is left are multiples of 16 per layer.
        whole: How many units each group had before any were removed, of which both are shares.
    """
    kinds: Mapping[str, tuple[float, int]] = {"attention": (heads, 1), "feed_forward": (feed_forward, UNIT_BLOCK)}
    keep: dict[str, list[int]] = {}
    for kind, (ratio, block) in kinds.items():
        values = {name: values for name, values in importance.items() if name.endswith(kind)}
        keep |= select(values, ratio, block, whole=whole)
    return keep
