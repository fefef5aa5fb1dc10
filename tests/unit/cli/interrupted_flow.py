"""Runs the flow with stand-in stages in a process of its own, for a test to interrupt; prints what became of it."""

import json
import sys
from pathlib import Path

from optops.driver import Event, run_flow
from optops.recipe_file import read_recipe
from optops.runners.subprocess import SubprocessRunner

STAGE = (sys.executable, str(Path(__file__).with_name("hanging_stage.py")))


def tell(event: Event) -> None:
    print(f"{event.kind} {event.task} {event.text}", flush=True)


outcome = run_flow(
    read_recipe(Path(sys.argv[1])),
    lambda: SubprocessRunner(STAGE, grace_seconds=1),
    label="interrupted",
    listeners=[tell],
    approve=lambda recipe, verdict: "approved",
)
states = {task.name: task.state for task in outcome.tasks}
print("outcome " + json.dumps({"states": states, "status": outcome.exit_status}), flush=True)
