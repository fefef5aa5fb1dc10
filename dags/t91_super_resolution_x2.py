"""The Airflow dag of recipes/t91_super_resolution_x2.yaml."""

from pathlib import Path

from optops.dag import recipe_dag

dag = recipe_dag(Path(__file__).parent / "recipes" / "t91_super_resolution_x2.yaml")
