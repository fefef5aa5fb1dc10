"""Makes optops work when this folder is placed in an Airflow home as `plugins/`, without installing anything."""

from importlib.metadata import entry_points

if not entry_points(group="airflow.plugins", name="optops"):
    # Installed, Airflow finds the plugin by its entry point; registering it twice would drop other plugins.
    from optops.plugin import OptopsPlugin

    __all__ = ["OptopsPlugin"]
