"""Airflow and MLflow on this machine alone, for `make demo` and `make ui`: isolated, on loopback, gone when done."""

from optops.services.airflow import POOL, Airflow
from optops.services.pages import ui
from optops.services.processes import Report, ServiceError
from optops.services.runs import Outcome, run_dag

__all__ = ["POOL", "Airflow", "Outcome", "Report", "ServiceError", "run_dag", "ui"]
