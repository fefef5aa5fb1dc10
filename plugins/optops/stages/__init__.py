"""The stages: one file each, a function `run(job)` that knows nothing of Airflow."""
