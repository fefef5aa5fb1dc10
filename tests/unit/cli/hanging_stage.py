"""A stage program that keeps the contract and needs no libraries; environment variables say what goes wrong.

`HANG`: the stage that sleeps until it is stopped, or for `SECONDS`. `FAIL`: JSON, task or item label to the message it
fails with. `LOSE`: the stage that loses its server in its first `LOST` attempts. `REFUSE`: verdict of the gate.
`REIGNING`: why `promote` has nothing to do, as the champion stays.
`COUNTS`: folder in which every attempt leaves a line.
"""

import json
import os
import sys
import time
from pathlib import Path

stage, spec_file, result_file = sys.argv[1], Path(sys.argv[3]), Path(sys.argv[5])
spec = json.loads(spec_file.read_text(encoding="utf-8"))
what = spec["item"]["label"] if spec["item"] else stage
made = {"stage": stage, "key": f"{stage}-0", "run_id": "", "candidates": [], "manifests": {}, "dropped": {}}
made |= {"output": {}, "links": {}, "skipped": "", "cached": False}


def fail(message: str, status: int) -> None:
    result_file.write_text(json.dumps({"failed": {"message": message, "details": ["a row"]}}), encoding="utf-8")
    sys.exit(status)


def candidate(name: str) -> dict:
    artifact = {"uri": "models:/m-0", "digest": "0"}
    facts = {"stage": stage, "parents": [], "architecture": "none", "precision": "fp32", "runtime": None}
    return {"key": f"{stage}-{name}", "name": name, **facts, "trainable": True, "artifact": artifact, "metrics": {}}


print(f"at work on {what}", flush=True)
if counts := os.environ.get("COUNTS"):
    with Path(counts, f"{what}.txt").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"state": spec["state"], "run": spec["run"]}) + "\n")
if os.environ.get("HANG") == what:
    time.sleep(float(os.environ["SECONDS"]))
if what in json.loads(os.environ.get("FAIL", "{}")):
    fail(json.loads(os.environ["FAIL"])[what], 3)
if os.environ.get("LOSE") == what and len(Path(counts, f"{what}.txt").read_text().splitlines()) <= int(
    os.environ["LOST"]
):
    fail("the server is gone", 75)
if stage == "open_run":
    made["output"] = {"run_id": "parent", "experiment": spec["run"]["experiment"]}
if stage == "plan":
    made["output"] = {"quantize": [{"label": "q0"}, {"label": "q1"}], "fuse": [{"label": "f0"}, {"label": "f1"}]}
if stage in ("distill", "prune") and spec["recipe"][stage] == "off":
    made["skipped"] = f"{stage} is off in the recipe"
if stage == "fuse":
    made["candidates"] = [candidate(what)]
refused = os.environ.get("REFUSE")
if stage == "gate":
    verdict = {"verdict": refused or "accept", "markdown": "## Verdict"}
    made["output"] = {"accepted": not refused, "champion": None, "verdict": verdict}
if stage in ("register", "promote"):
    made["skipped"] = f"the verdict is {refused}" if refused else ""
    if stage == "promote" and not refused:
        made["skipped"] = os.environ.get("REIGNING", "")
    made["output"] = (
        {} if refused else {"name": "phrases", "version": "7", "uri": "models:/phrases/7", "previous": None}
    )
if stage == "close_run":
    made["output"] = {"summary": "# Summed up"}
result_file.write_text(json.dumps(made), encoding="utf-8")
