"""The conformance suites: what optops' own executables, architectures and workloads pass, and a user's must too.

Each suite raises AssertionError with a message that says what does not hold. They need no test framework.
"""

from optops.testing.architectures import check_architecture
from optops.testing.executables import check_executable
from optops.testing.workloads import check_workload

__all__ = ["check_architecture", "check_executable", "check_workload"]
