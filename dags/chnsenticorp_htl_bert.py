"""The Airflow dag of recipes/chnsenticorp_htl_bert.yaml."""

from pathlib import Path

from optops.dag import recipe_dag

dag = recipe_dag(Path(__file__).parent / "recipes" / "chnsenticorp_htl_bert.yaml")
