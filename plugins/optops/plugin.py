"""What optops adds to Airflow: the operators' buttons. Imported in every Airflow process, so it must stay light."""

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from optops.operators.links import LINKS, StageLink


class OptopsPlugin(AirflowPlugin):
    """The plugin, found through the entry point group `airflow.plugins` or through `optops_plugin.py`."""

    name = "optops"
    operator_extra_links: ClassVar[list[StageLink]] = list(LINKS)
