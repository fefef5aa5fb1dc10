"""A stage program that does nothing but keep the contract; `OPTOPS_STAND_IN` says what goes wrong.

`OPTOPS_STAND_IN` is JSON: `fail` and `unreachable` (stage or item label to message), `refuse` (verdict of the gate),
`record` (a folder that gets every spec).
"""

import argparse
import json
import os
import sys
from pathlib import Path

ITEMS = {
    "quantize": [{"label": "baseline fp32"}, {"label": "baseline int8"}],
    "fuse": [
        {"label": "baseline fp32 tensorflow", "quantize_label": "baseline fp32"},
        {"label": "baseline int8 tensorflow", "quantize_label": "baseline int8"},
        {"label": "baseline int8 onnxruntime", "quantize_label": "baseline int8"},
    ],
}


def candidate(name: str, stage: str) -> dict:
    return {
        "key": f"{stage}-{abs(hash(name)):x}",
        "name": name,
        "stage": stage,
        "parents": [],
        "architecture": "stand-in",
        "precision": "fp32",
        "runtime": None,
        "trainable": True,
        "artifact": {"uri": "runs:/none", "digest": "0"},
        "metrics": {"quality": 0.5},
    }


def result(spec: dict, behaviour: dict) -> dict:
    stage, results = spec["stage"], spec["results"]
    made: dict = {"candidates": [], "output": {}, "links": {}, "skipped": "", "dropped": {}}

    def passed_on(name: str) -> list:
        return results[name][0]["candidates"]

    if stage == "open_run":
        made["output"] = {"run_id": "parent-run", "experiment": spec["run"]["experiment"]}
    elif stage == "train":
        made["candidates"] = [candidate("baseline", stage)]
    elif stage in ("distill", "prune"):
        upstream = {"distill": "train", "prune": "distill"}[stage]
        off = spec["recipe"][stage] == "off"
        made["candidates"] = passed_on(upstream) + ([] if off else [candidate(f"made by {stage}", stage)])
        made["skipped"] = f"{stage} is off in the recipe" if off else ""
    elif stage == "plan":
        made["output"] = ITEMS
    elif stage == "quantize":
        made["output"] = {"label": spec["item"]["label"]}
    elif stage == "fuse":
        ready = [r["output"]["label"] for r in results["quantize"]]
        if spec["item"]["quantize_label"] not in ready:
            raise ValueError(f"there is no precision plan for {spec['item']['quantize_label']!r}")
        made["candidates"] = [candidate(spec["item"]["label"], stage)]
    elif stage in ("benchmark", "nominate"):
        made["candidates"] = [c for r in results["fuse"] for c in r["candidates"]]
    elif stage == "gate":
        refused = behaviour.get("refuse")
        verdict = {"verdict": refused or "accept", "markdown": "The **nominee** is as good as the baseline."}
        made["output"] = {"accepted": not refused, "verdict": verdict, "champion": None}
    elif stage == "register":
        if results["gate"][0]["output"]["accepted"]:
            made["candidates"] = results["nominate"][0]["candidates"][:1]
            made["output"] = {"name": spec["recipe"]["registry"]["name"], "version": "7"}
            made["links"] = {"model_version": "http://127.0.0.1:1/#/models/m/versions/7"}
        else:
            made["skipped"] = "the verdict is regression: nothing to register"
    elif stage == "promote":
        registered = results["register"][0]
        made["candidates"], made["output"] = registered["candidates"], registered["output"]
        made["skipped"] = registered["skipped"]
    elif stage == "close_run":
        made["output"] = {"state": spec["state"]}
    return made


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage")
    parser.add_argument("--spec", type=Path)
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    spec = json.loads(options.spec.read_text(encoding="utf-8"))
    behaviour = json.loads(os.environ.get("OPTOPS_STAND_IN", "{}"))
    what = (spec["item"] or {}).get("label", options.stage)
    if behaviour.get("record"):
        Path(behaviour["record"], f"{options.stage} {what}.json").write_text(json.dumps(spec), encoding="utf-8")
    print(f"::optops::link mlflow_run http://127.0.0.1:1/#/runs/{options.stage}", flush=True)
    print(f"stand-in for {what}", flush=True)
    if what in behaviour.get("fail", {}):
        return fail(options.result, behaviour["fail"][what], 3)
    if what in behaviour.get("unreachable", {}):
        return fail(options.result, behaviour["unreachable"][what], 75)
    try:
        made = result(spec, behaviour)
    except ValueError as error:
        return fail(options.result, str(error), 3)
    made |= {"stage": options.stage, "key": f"{options.stage}-0", "run_id": f"run-of-{options.stage}", "manifests": {}}
    options.result.write_text(json.dumps(made), encoding="utf-8")
    return 0


def fail(path: Path, message: str, status: int) -> int:
    path.write_text(json.dumps({"failed": {"message": message, "details": []}}), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
