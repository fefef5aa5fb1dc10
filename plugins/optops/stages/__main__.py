"""What every runner starts: `python -m optops.stages NAME --spec spec.json --result result.json`."""

import argparse
import json
import logging
import os
import sys
import traceback
from pathlib import Path

from optops.pipeline import ORDER, STAGES
from optops.stage_spec import EXIT_FAILED, EXIT_UNREACHABLE, StageSpec


def main(arguments: list[str] | None = None) -> int:
    """Runs one stage and writes its result, or why it failed; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m optops.stages", description=__doc__)
    parser.add_argument("stage", choices=ORDER)
    parser.add_argument("--spec", type=Path, required=True, help="JSON of a StageSpec")
    parser.add_argument("--result", type=Path, required=True, help="where the JSON of the StageResult goes")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("optops").setLevel(logging.INFO)
    spec = StageSpec.from_json(json.loads(options.spec.read_text(encoding="utf-8")))
    _choose_devices(spec)
    try:
        from optops.stages.execution import run_stage

        outcome = run_stage(spec).to_json()
        status = 0
    except Exception as error:  # noqa: BLE001 - the outermost frame: whatever happens becomes a message
        outcome, status = _explain(error)
    partial = options.result.with_suffix(".partial")
    partial.write_text(json.dumps(outcome), encoding="utf-8")
    partial.replace(options.result)
    return status


def _choose_devices(spec: StageSpec) -> None:
    """Sets what TensorFlow reads when it starts, here and in the processes that time executables."""
    # Several share a GPU, and it would give the first of them all memory.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if STAGES[spec.stage].exclusive and spec.recipe["target"]["device"] == "cpu":
        # It alone would take a GPU: the baseline would be timed on one, and what is timed against it on the CPU.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def _explain(error: Exception) -> tuple[dict[str, object], int]:
    from optops.errors import is_expected
    from optops.passwords import without_password
    from optops.stages.base import one_message
    from optops.unreachable import is_unreachable

    details = list(getattr(error, "details", []))
    unreachable = is_unreachable(error)
    if not is_expected(error) and not unreachable:
        print(one_message(without_password("".join(traceback.format_exception(error)))), file=sys.stderr)  # noqa: T201
    # MLflow's errors name the address of the server.
    message = without_password(str(error) if is_expected(error) else f"{type(error).__name__}: {error}")
    for line in (message, *details):
        print(one_message(line), file=sys.stderr, flush=True)  # noqa: T201 - the task's log
    return {"failed": {"message": message, "details": details}}, EXIT_UNREACHABLE if unreachable else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
