"""What `optops doctor` finds about the pool of the stages."""

import json

import pytest

MIGRATE = "import sys; from airflow.__main__ import main; sys.argv[1:] = ['db', 'migrate']; main()"

POOL = """
import json
from airflow.models.pool import Pool
from optops.cli.examination import examine
Pool.create_or_update_pool("small", 4, "Of the stages.", False)
print(json.dumps([[finding.state, finding.text] for finding in examine() if finding.name == "pool"]))
"""


@pytest.mark.slow
def test_a_pool_smaller_than_what_the_benchmark_takes_is_found(fresh_home):
    fresh_home.python(MIGRATE)
    settings = {"AIRFLOW__OPTOPS__POOL": "small", "AIRFLOW__OPTOPS__POOL_SLOTS": "8"}
    ((state, text),) = json.loads(fresh_home.python(POOL, **settings))
    assert state == "missing"
    assert text.startswith("'small' has 4 slots: the benchmark, which takes 8, never starts; set AIRFLOW__OPTOPS__POOL")
