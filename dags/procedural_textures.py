"""The Airflow dag of recipes/procedural_textures.yaml."""

from pathlib import Path

from optops.dag import recipe_dag

dag = recipe_dag(Path(__file__).parent / "recipes" / "procedural_textures.yaml")
