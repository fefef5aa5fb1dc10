"""Airflow operators: one per stage, and one that asks a person."""
