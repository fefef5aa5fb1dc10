"""The Airflow dag of recipes/multi30k_en_de.yaml."""

from pathlib import Path

from optops.dag import recipe_dag

dag = recipe_dag(Path(__file__).parent / "recipes" / "multi30k_en_de.yaml")
