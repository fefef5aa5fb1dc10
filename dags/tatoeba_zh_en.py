"""The Airflow dag of recipes/tatoeba_zh_en.yaml."""

from pathlib import Path

from optops.dag import recipe_dag

dag = recipe_dag(Path(__file__).parent / "recipes" / "tatoeba_zh_en.yaml")
