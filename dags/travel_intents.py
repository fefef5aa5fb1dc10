"""The Airflow dag of recipes/travel_intents.yaml."""

from pathlib import Path

from optops.dag import recipe_dag

dag = recipe_dag(Path(__file__).parent / "recipes" / "travel_intents.yaml")
