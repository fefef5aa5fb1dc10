"""The Airflow dag of recipes/sst2_albert.yaml."""

from pathlib import Path

from optops.dag import recipe_dag

dag = recipe_dag(Path(__file__).parent / "recipes" / "sst2_albert.yaml")
