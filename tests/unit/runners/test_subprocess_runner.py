"""SubprocessRunner: real processes that succeed, fail, crash, hang, and lose their parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from optops.runners.base import StageFailed
from optops.runners.subprocess import SubprocessRunner
from optops.stage_spec import RunReference, StageResult, StageSpec

SPEC = StageSpec("train", {"name": "n"}, RunReference("", "experiment", "run", "label"))

PRELUDE = """
import argparse, json, os, signal, subprocess, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("stage"); parser.add_argument("--spec"); parser.add_argument("--result")
options = parser.parse_args()
spec = json.load(open(options.spec))
def deliver(**more):
    empty = dict(candidates=[], manifests={}, dropped={}, output={}, links={})
    json.dump(dict(empty, stage=options.stage, key="k", **more), open(options.result, "w"))
def fail(message, *details):
    json.dump({"failed": {"message": message, "details": details}}, open(options.result, "w"))
"""


class Heard:
    """What a run called back."""

    def __init__(self):
        self.lines: list[str] = []
        self.links: dict[str, str] = {}


@pytest.fixture
def stage(tmp_path):
    """Returns a function that writes a program and a runner for it."""

    def make(body: str, **options) -> SubprocessRunner:
        program = tmp_path / "stage.py"
        program.write_text(PRELUDE + body, encoding="utf-8")
        return SubprocessRunner((sys.executable, str(program)), **options)

    return make


def run(runner: SubprocessRunner, heard: Heard | None = None) -> StageResult:
    heard = heard or Heard()
    return runner.run(SPEC, heard.lines.append, heard.links.__setitem__)


def is_alive(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends while it is read
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def wait_until(condition, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_the_stage_gets_its_spec_and_its_result_comes_back(stage):
    runner = stage("deliver(output={'recipe': spec['recipe'], 'label': spec['run']['label']})")
    result = run(runner)
    assert result == StageResult("train", "k", output={"recipe": {"name": "n"}, "label": "label"})


def test_lines_of_both_streams_arrive_while_the_stage_runs(stage, tmp_path):
    go = tmp_path / "go"
    runner = stage(
        f"print('first'); print('second', file=sys.stderr)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\nprint('third'); deliver()"
    )
    heard = Heard()

    def on_line(line: str) -> None:
        heard.lines.append(line)
        if line == "second":
            go.touch()

    runner.run(SPEC, on_line, heard.links.__setitem__)
    assert heard.lines == ["first", "second", "third"]


def test_an_announced_link_is_called_back_and_stays_out_of_the_log(stage):
    heard = Heard()
    run(stage("print('::optops::link mlflow_run http://host/run?a=1 '); print('::optops::link'); deliver()"), heard)
    assert heard.links == {"mlflow_run": "http://host/run?a=1"}
    assert heard.lines == ["::optops::link"]


def test_a_stage_says_everything_whatever_the_locale_can_spell(stage, monkeypatch):
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    heard = Heard()
    run(stage("print('label 猫 → Katze'); print('half \\ud83d'); deliver()"), heard)
    assert heard.lines == ["label 猫 → Katze", "half \\ud83d"]


def test_a_ten_megabyte_line_is_cut(stage):
    heard = Heard()
    run(stage("print('x' * 10_000_000); print('after'); deliver()"), heard)
    assert len(heard.lines) == 2
    assert len(heard.lines[0]) < 20_000
    assert heard.lines[0].endswith("(9983616 more bytes)")
    assert heard.lines[1] == "after"


def test_a_failed_stage_speaks_for_itself_and_is_not_retried(stage):
    with pytest.raises(StageFailed, match="3 rows are empty") as failure:
        run(stage("fail('3 rows are empty', 'row 1', 'row 2'); sys.exit(3)"))
    assert failure.value.details == ("row 1", "row 2")
    assert not failure.value.retry


def test_an_unreachable_server_is_retried(stage):
    with pytest.raises(StageFailed, match="MLflow does not answer") as failure:
        run(stage("fail('MLflow does not answer'); sys.exit(75)"))
    assert failure.value.retry


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_death_by_signal_is_named_and_retried(stage, number):
    with pytest.raises(StageFailed, match=f"killed by {number.name}") as failure:
        run(stage(f"os.kill(os.getpid(), {int(number)})"))
    assert failure.value.retry


def test_a_stage_that_reports_its_signal_as_a_status_is_retried(stage):
    with pytest.raises(StageFailed, match="killed by SIGTERM") as failure:
        run(stage("sys.exit(143)"))
    assert failure.value.retry


def test_a_bug_shows_its_last_lines_and_is_not_retried(stage):
    with pytest.raises(StageFailed, match="exit status 1") as failure:
        run(stage("raise KeyError('oops')"))
    assert failure.value.details[-1] == "KeyError: 'oops'"
    assert not failure.value.retry


@pytest.mark.parametrize(
    "body", ["pass", "open(options.result, 'w').write('{')", "open(options.result, 'w').write('[]')"]
)
def test_success_without_a_result_is_a_failure(stage, body):
    with pytest.raises(StageFailed, match="without writing a result") as failure:
        run(stage(body))
    assert not failure.value.retry


def test_a_result_of_another_shape_is_a_failure(stage):
    with pytest.raises(StageFailed, match="can not be read"):
        run(stage("json.dump({'a': 1}, open(options.result, 'w'))"))


def test_a_command_that_does_not_exist_says_so():
    with pytest.raises(StageFailed, match="exit status 127") as failure:
        run(SubprocessRunner(("/nowhere/python",)))
    assert "/nowhere/python can not be started" in failure.value.details[-1]


def test_a_machine_without_room_for_a_stage_fails_it_and_may_have_room_later(stage, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(StageFailed, match=r"train can not be started on this machine: .*gone") as failure:
        run(stage("deliver()"))
    assert failure.value.retry


def test_the_environment_is_handed_on(stage, monkeypatch):
    monkeypatch.setenv("OPTOPS_TEST", "given")
    assert run(stage("deliver(output={'value': os.environ['OPTOPS_TEST']})")).output == {"value": "given"}


def test_no_module_comes_from_where_the_run_was_started(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise SystemExit('the random.py of the folder')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageFailed) as failure:
        run(SubprocessRunner((sys.executable, "-m", "random")))
    assert "the random.py of the folder" not in "\n".join(failure.value.details)


def test_what_the_stage_left_running_is_ended(stage):
    child = run(stage("child = subprocess.Popen(['sleep', '300']); deliver(output={'child': child.pid})")).output[
        "child"
    ]
    assert wait_until(lambda: not is_alive(child))


def test_a_process_that_left_the_group_does_not_hold_up_the_result(stage):
    runner = stage(
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True); deliver(output={'child': child.pid})"
    )
    child = run(runner).output["child"]
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)


TREE = """
child = subprocess.Popen(['sleep', '300'])
{before}
print('pids', os.getpid(), child.pid)
time.sleep(300)
"""


@pytest.mark.parametrize(
    "before", ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["obeys", "ignores SIGTERM"]
)
def test_stop_ends_the_whole_group(stage, before):
    runner = stage(TREE.format(before=before), grace_seconds=0.5)
    processes: list[int] = []

    def on_line(line: str) -> None:
        if line.startswith("pids"):
            processes.extend(map(int, line.split()[1:]))
            threading.Thread(target=runner.stop).start()

    with pytest.raises(StageFailed, match="stopped") as failure:
        runner.run(SPEC, on_line, lambda name, url: None)
    assert failure.value.retry
    assert len(processes) == 2
    assert wait_until(lambda: not any(map(is_alive, processes)))


def test_a_stage_may_clean_up_when_it_is_stopped(stage, tmp_path):
    runner = stage(
        f"""
def clean_up(*_):
    open({str(tmp_path / "cleaned")!r}, 'w').close()
    sys.exit(143)
signal.signal(signal.SIGTERM, clean_up)
print('ready')
time.sleep(300)
"""
    )
    with pytest.raises(StageFailed, match="stopped"):
        runner.run(SPEC, lambda line: runner.stop(), lambda name, url: None)
    assert (tmp_path / "cleaned").exists()


def test_a_runner_stopped_before_it_runs_runs_nothing_for_long(stage):
    runner = stage("time.sleep(300)")
    runner.stop()
    with pytest.raises(StageFailed, match="stopped"):
        run(runner)


def test_an_error_in_a_callback_ends_the_stage(stage):
    processes: list[int] = []

    def on_line(line: str) -> None:
        processes.extend(map(int, line.split()[1:]))
        raise OSError("the log is gone")

    with pytest.raises(OSError, match="the log is gone"):
        stage(TREE.format(before="pass")).run(SPEC, on_line, lambda name, url: None)
    assert wait_until(lambda: not any(map(is_alive, processes)))


PARENT = """
import signal, sys
from optops.runners.subprocess import SubprocessRunner
from optops.stage_spec import RunReference, StageSpec
runner = SubprocessRunner((sys.executable, sys.argv[1]), grace_seconds=0.5)
signal.signal(signal.SIGTERM, lambda *_: runner.stop())
spec = StageSpec("train", {}, RunReference("", "experiment", "run", "label"))
try:
    runner.run(spec, lambda line: print(line, flush=True), lambda name, url: None)
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.fixture
def family(stage, tmp_path):
    """Starts a process with a runner in it; gives it and the ids of the stage's processes."""
    stage(TREE.format(before="signal.signal(signal.SIGTERM, signal.SIG_IGN)"))
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "stage.py")], stdout=subprocess.PIPE, text=True
    ) as parent:
        processes = list(map(int, parent.stdout.readline().split()[1:]))
        assert all(map(is_alive, processes))
        yield parent, processes
        parent.kill()


def test_no_stage_survives_a_parent_that_is_killed(family):
    parent, processes = family
    parent.kill()
    assert wait_until(lambda: not any(map(is_alive, processes)))


def test_a_parent_that_is_told_to_end_ends_its_stage_and_says_so(family):
    parent, processes = family
    parent.terminate()
    said, _ = parent.communicate(timeout=20)
    assert said == "StageFailed train was stopped before it was done\n"
    assert wait_until(lambda: not any(map(is_alive, processes)))


def test_what_an_error_quotes_of_the_data_sets_no_link_and_shows_no_password(stage):
    heard = Heard()
    failing = """
import optops.stages.execution as execution
from optops.stages.__main__ import main
from optops.stages.base import StageError
def run_stage(spec):
    evil = "text\\n::optops::link data_docs https://evil"
    server = f"https://bot:secret@host did not answer: {evil}"
    raise (StageError(server, [evil]) if KIND == "expected" else RuntimeError(server))
execution.run_stage = run_stage
sys.exit(main())
"""
    for kind in ("expected", "other"):
        with pytest.raises(StageFailed) as caught:
            run(stage(f"KIND = {kind!r}{failing}"), heard)
        assert "secret" not in str(caught.value)
    assert heard.links == {}
    assert not any("secret" in line for line in heard.lines)
    assert sum("::optops::link data_docs https://evil" in line for line in heard.lines) >= 4
