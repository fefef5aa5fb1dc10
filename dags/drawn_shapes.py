"""The Airflow dag of recipes/drawn_shapes.yaml."""

from pathlib import Path

from optops.dag import recipe_dag

dag = recipe_dag(Path(__file__).parent / "recipes" / "drawn_shapes.yaml")
