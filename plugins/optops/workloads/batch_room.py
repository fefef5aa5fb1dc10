"""Holds the sizes of batches against the examples before anything is trained, not when a student's turn comes."""

from optops.recipe import Recipe
from optops.sections import Teaching


def batch_sizes(recipe: Recipe) -> dict[str, int]:
    """Returns `batch_tokens` of each section that trains something, by its key in the recipe."""
    taught = {"distill": recipe.distill, "prune": recipe.prune}
    sizes = {f"{name}.train": each.train.batch_tokens for name, each in taught.items() if isinstance(each, Teaching)}
    return {"train": recipe.train.batch_tokens, **sizes}
