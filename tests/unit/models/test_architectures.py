"""What an architecture says of itself."""

import subprocess
import sys


def test_what_a_plan_asks_of_an_architecture_does_not_import_tensorflow():
    code = """
import sys
import optops.stages.plan, optops.stages.quantize
from optops.models.base import load_architecture, load_function
for name in ("transformer", "bert", "functional"):
    load_architecture(name).lowerings()
for name in ("transformer", "bert"):
    load_function(load_architecture(name).planner())
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
