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


def open_run(spec: dict, behaviour: dict) -> dict:
    return {"output": {"run_id": "parent-run", "experiment": spec["run"]["experiment"]}}


def train(spec: dict, behaviour: dict) -> dict:
    return {"candidates": [candidate("baseline", "train")]}


def distill(spec: dict, behaviour: dict) -> dict:
    return compress(spec, "train")


def prune(spec: dict, behaviour: dict) -> dict:
    return compress(spec, "distill")


def compress(spec: dict, upstream: str) -> dict:
    stage, candidates = spec["stage"], spec["results"][upstream][0]["candidates"]
    if spec["recipe"][stage] == "off":
        return {"candidates": candidates, "skipped": f"{stage} is off in the recipe"}
    return {"candidates": [*candidates, candidate(f"made by {stage}", stage)]}


def plan(spec: dict, behaviour: dict) -> dict:
    return {"output": ITEMS}


def quantize(spec: dict, behaviour: dict) -> dict:
    return {"output": {"label": spec["item"]["label"]}}


def fuse(spec: dict, behaviour: dict) -> dict:
    wanted = spec["item"]["quantize_label"]
    if wanted not in [planned["output"]["label"] for planned in spec["results"]["quantize"]]:
        raise ValueError(f"there is no precision plan for {wanted!r}")
    return {"candidates": [candidate(spec["item"]["label"], "fuse")]}


def benchmark(spec: dict, behaviour: dict) -> dict:
    return {"candidates": [made for fused in spec["results"]["fuse"] for made in fused["candidates"]]}


def nominate(spec: dict, behaviour: dict) -> dict:
    return {"candidates": spec["results"]["benchmark"][0]["candidates"][:1]}


def gate(spec: dict, behaviour: dict) -> dict:
    refused = behaviour.get("refuse")
    verdict = {"verdict": refused or "accept", "markdown": "The **nominee** is as good as the baseline."}
    return {"output": {"accepted": not refused, "verdict": verdict, "champion": None}}


def register(spec: dict, behaviour: dict) -> dict:
    judged = spec["results"]["gate"][0]["output"]
    if not judged["accepted"]:
        return {"skipped": f"the verdict is {judged['verdict']['verdict']}: nothing to register"}
    return {
        "candidates": spec["results"]["nominate"][0]["candidates"],
        "output": {"name": spec["recipe"]["registry"]["name"], "version": "7"},
        "links": {"model_version": "http://127.0.0.1:1/#/models/m/versions/7"},
    }


def promote(spec: dict, behaviour: dict) -> dict:
    registered = spec["results"]["register"][0]
    return {name: registered[name] for name in ("candidates", "output", "links", "skipped")}


def close_run(spec: dict, behaviour: dict) -> dict:
    return {"output": {"state": spec["state"], "summary": "# What became of it"}}


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
        made = globals().get(options.stage, lambda *_: {})(spec, behaviour)
    except ValueError as error:
        return fail(options.result, str(error), 3)
    empty = {"candidates": [], "manifests": {}, "dropped": {}, "output": {}, "links": {}, "skipped": ""}
    whole = {**empty, **made, "stage": options.stage, "key": f"{options.stage}-0", "run_id": f"run-of-{options.stage}"}
    options.result.write_text(json.dumps(whole), encoding="utf-8")
    return 0


def fail(path: Path, message: str, status: int) -> int:
    path.write_text(json.dumps({"failed": {"message": message, "details": []}}), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
