"""How a stage is executed: its locks, and what is left when it is done."""

import threading
from time import sleep

import pytest

from optops import home
from optops.home import file_lock
from optops.measurement.host import host_lock
from optops.stage_spec import StageResult
from optops.stages import benchmark, check_labels, checkpoints, nominate
from optops.stages.execution import run_stage
from optops.tracking import KEY_TAG, STAGE_TAG, Tracking


class TakenError(Exception):
    """The host's lock is held by others."""


def is_free(exclusive):
    """Returns whether somebody else could have the host now."""

    def taken(seconds):
        raise TakenError

    try:
        with host_lock(exclusive=exclusive, on_wait=taken):
            return True
    except TakenError:
        return False


@pytest.mark.parametrize(("module", "alone"), [(benchmark, True), (nominate, False), (check_labels, False)])
def test_timings_have_the_host_for_themselves_and_other_stages_share_it(job, monkeypatch, tmp_path, module, alone):
    monkeypatch.setenv("OPTOPS_LOCK_FOLDER", str(tmp_path / "lock"))
    seen = {}

    def run(job):
        seen.update(shared=is_free(exclusive=False), exclusive=is_free(exclusive=True))
        return job.hand_on()

    monkeypatch.setattr(module, "run", run)
    run_stage(job(module.__name__.rpartition(".")[2], {}).spec)
    assert seen == {"shared": not alone, "exclusive": False}
    assert is_free(exclusive=True)


def test_of_two_runs_at_once_that_need_the_same_the_second_waits_and_takes_it_over(job, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OPTOPS_LOCK_FOLDER", str(tmp_path / "lock"))
    ours, locked, waiting = job("check_labels", {}), threading.Event(), threading.Event()

    def notice(seconds):
        waiting.set()
        sleep(seconds)

    def other_run():
        tags = {KEY_TAG: ours.key, STAGE_TAG: "check_labels", "optops.cached_from": ""}
        with file_lock(ours.key):
            locked.set()
            assert waiting.wait(60)
            tracking = Tracking()
            run_id = tracking.open_run(ours.recipe.experiment, "check_labels", tags)
            tracking.log_result(run_id, StageResult("check_labels", ours.key, run_id, output={"made by": "the other"}))
            tracking.end_run(run_id, "FINISHED")

    def run_again(job):
        raise AssertionError("the second run made what the first one was making")

    monkeypatch.setattr(check_labels, "run", run_again)
    other = threading.Thread(target=other_run)
    other.start()
    assert locked.wait(60)
    monkeypatch.setattr(home, "sleep", notice)
    try:
        result = run_stage(ours.spec)
    finally:
        waiting.set()
        other.join()
    assert result.cached
    assert result.output == {"made by": "the other"}
    assert "taken over from run" in capsys.readouterr().out


def test_a_stage_that_is_done_is_done_though_the_server_is_gone_when_it_tidies_up(job, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OPTOPS_LOCK_FOLDER", str(tmp_path / "lock"))

    def gone(job):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(checkpoints, "remove", gone)
    monkeypatch.setattr(nominate, "run", lambda job: job.hand_on(output={"made": "once"}))
    assert run_stage(job("nominate", {}).spec).output == {"made": "once"}
    assert "no longer needed stay in the store: no route to host" in capsys.readouterr().out
