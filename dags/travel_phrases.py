"""The Airflow dag of recipes/travel_phrases.yaml."""

from pathlib import Path

from optops.dag import recipe_dag

dag = recipe_dag(Path(__file__).parent / "recipes" / "travel_phrases.yaml")
