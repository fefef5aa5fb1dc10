"""What Airflow's provider manager shows about optops; imports nothing from Airflow."""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Returns the provider's metadata in the form of Airflow's provider_info schema."""
    return {
        "package-name": "optops",
        "name": "optops",
        "description": "Makes TensorFlow models as fast as their hardware allows without making them worse.",
    }
