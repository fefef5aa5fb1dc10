"""The Airflow dag of recipes/bccd_yolov3.yaml."""

from pathlib import Path

from optops.dag import recipe_dag

dag = recipe_dag(Path(__file__).parent / "recipes" / "bccd_yolov3.yaml")
