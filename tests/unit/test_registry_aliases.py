"""Champions in a real MLflow registry: promotion, its memory, the way back, and who may not promote."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from optops.candidate import Artifact
from optops.registry import (
    ARTIFACT_TAG,
    CANDIDATE_TAG,
    CHALLENGER,
    CHAMPION,
    DIGEST_TAG,
    HISTORY_TAG,
    PROMOTED_TAG,
    ROLLED_BACK_TAG,
    RegistryError,
    promote,
    rollback,
    set_challenger,
    version_by_alias,
)
from optops.tracking import Tracking

NAME = "phrases"


@pytest.fixture
def client(optops_home: Path) -> MlflowClient:
    del optops_home
    client = Tracking().client
    client.create_registered_model(NAME)
    return client


def new_version(client: MlflowClient, candidate: str = "fuse-1") -> str:
    tags = {CANDIDATE_TAG: candidate, ARTIFACT_TAG: "models:/m-1", DIGEST_TAG: "abc"}
    return str(client.create_model_version(NAME, source="file:///nowhere", tags=tags).version)


def champion(client: MlflowClient) -> str | None:
    found = version_by_alias(client, NAME, CHAMPION)
    return found.version if found else None


def test_an_alias_says_which_candidate_and_which_files(client: MlflowClient) -> None:
    version = new_version(client)
    set_challenger(client, NAME, version)
    found = version_by_alias(client, NAME, CHALLENGER)
    assert found is not None
    assert (found.version, found.candidate, found.artifact) == (version, "fuse-1", Artifact("models:/m-1", "abc"))


def test_there_is_no_champion_before_a_promotion_nor_of_an_unknown_model(client: MlflowClient) -> None:
    new_version(client)
    assert champion(client) is None
    assert version_by_alias(client, "unknown", CHAMPION) is None


def test_promotions_are_remembered(client: MlflowClient) -> None:
    first, second = new_version(client), new_version(client, "fuse-2")
    assert promote(client, NAME, first, None) is None
    assert promote(client, NAME, second, first) == first
    assert champion(client) == second
    assert json.loads(client.get_registered_model(NAME).tags[HISTORY_TAG]) == [first, second]


def test_promoting_the_champion_again_changes_nothing(client: MlflowClient) -> None:
    first, second = new_version(client), new_version(client, "fuse-2")
    promote(client, NAME, first, None)
    promote(client, NAME, second, first)
    # A retried task: what it compared with is no longer the champion, what it promotes is.
    assert promote(client, NAME, second, first) == first
    assert json.loads(client.get_registered_model(NAME).tags[HISTORY_TAG]) == [first, second]


def test_a_retry_after_a_death_between_alias_and_memory_remembers(client: MlflowClient) -> None:
    first, second = new_version(client), new_version(client, "fuse-2")
    promote(client, NAME, first, None)
    client.set_registered_model_alias(NAME, CHAMPION, second)
    assert promote(client, NAME, second, first) == first
    assert rollback(client, NAME) == (second, first)


def test_a_champion_that_a_person_set_is_the_one_to_go_back_to(client: MlflowClient) -> None:
    first, chosen, third = (new_version(client, f"fuse-{n}") for n in range(3))
    promote(client, NAME, first, None)
    client.set_registered_model_alias(NAME, CHAMPION, chosen)
    assert promote(client, NAME, third, chosen) == chosen
    assert rollback(client, NAME) == (third, chosen)


def test_a_champion_that_changed_since_the_gate_is_not_overrun(client: MlflowClient) -> None:
    first, second, third = (new_version(client, f"fuse-{n}") for n in range(3))
    promote(client, NAME, first, None)
    promote(client, NAME, second, first)
    with pytest.raises(RegistryError, match=r"now version 2, but the gate compared with 1: another run promoted"):
        promote(client, NAME, third, first)
    with pytest.raises(RegistryError, match="compared with none"):
        promote(client, NAME, third, None)
    assert champion(client) == second


def test_rolling_back_goes_to_the_champion_before_and_not_to_and_fro(client: MlflowClient) -> None:
    versions = [new_version(client, f"fuse-{n}") for n in range(3)]
    for version, before in zip(versions, [None, *versions], strict=False):
        promote(client, NAME, version, before)
    assert rollback(client, NAME) == (versions[2], versions[1])
    assert rollback(client, NAME) == (versions[1], versions[0])
    assert champion(client) == versions[0]
    with pytest.raises(RegistryError, match="version 1 is the only champion of"):
        rollback(client, NAME)


def test_a_model_without_champion_is_named_with_the_store_that_was_asked(client: MlflowClient) -> None:
    with pytest.raises(RegistryError, match=rf"'{NAME}' has no champion in sqlite:///.*/home/mlflow/mlflow.db"):
        rollback(client, NAME)


def test_a_version_that_is_promoted_again_is_not_rolled_back_any_more(client: MlflowClient) -> None:
    first, second = new_version(client), new_version(client, "fuse-2")
    promote(client, NAME, first, None)
    promote(client, NAME, second, first)
    rollback(client, NAME)
    assert ROLLED_BACK_TAG in client.get_model_version(NAME, second).tags
    promote(client, NAME, second, first)
    assert ROLLED_BACK_TAG not in client.get_model_version(NAME, second).tags


@pytest.mark.parametrize("dies_at", ["set_model_version_tag", "delete_model_version_tag", "set_registered_model_tag"])
def test_a_promotion_that_was_cut_off_is_finished_by_repeating_it(
    dies_at: str, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (new_version(client, f"fuse-{n}") for n in range(3))
    promote(client, NAME, first, None)
    promote(client, NAME, second, first)
    rollback(client, NAME)
    client.delete_model_version_tag(NAME, second, PROMOTED_TAG)

    def dies(*arguments: str) -> None:
        raise ConnectionError(f"{dies_at} of {arguments}")

    with monkeypatch.context() as patch:
        patch.setattr(client, dies_at, dies)
        with pytest.raises(ConnectionError):
            promote(client, NAME, second, first)
    promote(client, NAME, second, first)
    tags = client.get_model_version(NAME, second).tags
    assert PROMOTED_TAG in tags and ROLLED_BACK_TAG not in tags
    promote(client, NAME, third, second)
    assert rollback(client, NAME) == (third, second)


@pytest.mark.parametrize("promoted_again", [False, True])
def test_a_version_that_a_person_made_champion_after_its_rollback_can_be_gone_back_to(
    promoted_again: bool, client: MlflowClient
) -> None:
    first, second, third = (new_version(client, f"fuse-{n}") for n in range(3))
    promote(client, NAME, first, None)
    promote(client, NAME, second, first)
    rollback(client, NAME)
    client.set_registered_model_alias(NAME, CHAMPION, second)
    if promoted_again:
        promote(client, NAME, second, first)
    promote(client, NAME, third, second)
    assert rollback(client, NAME) == (third, second)


@pytest.mark.parametrize("dies_at", ["set_model_version_tag", "set_registered_model_tag", "set_registered_model_alias"])
def test_a_rollback_that_was_cut_off_is_finished_by_repeating_it(
    dies_at: str, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [new_version(client, f"fuse-{n}") for n in range(3)]
    for version, before in zip(versions, [None, *versions], strict=False):
        promote(client, NAME, version, before)

    def dies(*arguments: str) -> None:
        raise ConnectionError(f"{dies_at} of {arguments}")

    with monkeypatch.context() as patch:
        patch.setattr(client, dies_at, dies)
        with pytest.raises(ConnectionError):
            rollback(client, NAME)
    assert rollback(client, NAME) == (versions[2], versions[1])
    assert json.loads(client.get_registered_model(NAME).tags[HISTORY_TAG]) == versions[:2]
    tagged = [v for v in versions if ROLLED_BACK_TAG in client.get_model_version(NAME, v).tags]
    assert tagged == [versions[2]]


def test_after_an_alias_was_moved_back_by_hand_the_way_is_still_back(client: MlflowClient) -> None:
    versions = [new_version(client, f"fuse-{n}") for n in range(3)]
    for version, before in zip(versions, [None, *versions], strict=False):
        promote(client, NAME, version, before)
    client.set_registered_model_alias(NAME, CHAMPION, versions[1])
    assert rollback(client, NAME) == (versions[1], versions[0])


def test_what_was_rolled_back_is_not_gone_back_to(client: MlflowClient) -> None:
    good, bad, third = (new_version(client, f"fuse-{n}") for n in range(3))
    promote(client, NAME, good, None)
    promote(client, NAME, bad, good)
    # The tag came through, and then a person moved the alias.
    client.set_model_version_tag(NAME, bad, ROLLED_BACK_TAG, "2026-01-01T00:00:00Z")
    client.set_registered_model_alias(NAME, CHAMPION, good)
    promote(client, NAME, third, good)
    assert rollback(client, NAME) == (third, good)
    with pytest.raises(RegistryError, match="only champion"):
        rollback(client, NAME)


def test_after_a_rollback_another_version_can_be_promoted(client: MlflowClient) -> None:
    versions = [new_version(client, f"fuse-{n}") for n in range(3)]
    promote(client, NAME, versions[0], None)
    promote(client, NAME, versions[1], versions[0])
    rollback(client, NAME)
    assert promote(client, NAME, versions[2], versions[0]) == versions[0]
    assert rollback(client, NAME) == (versions[2], versions[0])


def test_a_promotion_that_another_machine_overtakes_is_none(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = new_version(client), new_version(client, "fuse-2")
    remember = client.set_registered_model_tag

    def overtaken(*arguments: str) -> None:
        remember(*arguments)
        client.set_registered_model_alias(NAME, CHAMPION, theirs)

    monkeypatch.setattr(client, "set_registered_model_tag", overtaken)
    with pytest.raises(RegistryError, match=f"another machine .* the champion is version {theirs}, not {ours}"):
        promote(client, NAME, ours, None)


def test_a_promotion_that_overwrites_another_machines_is_told_and_leaves_a_way_back_to_it(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, ours, theirs = (new_version(client, f"fuse-{n}") for n in range(3))
    promote(client, NAME, first, None)
    put = client.set_registered_model_alias

    def just_before(*arguments: str) -> None:
        monkeypatch.setattr(client, "set_registered_model_alias", put)
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("OPTOPS_HOME", str(tmp_path / "the other machine"))
            assert promote(client, NAME, theirs, first) == first
        put(*arguments)

    monkeypatch.setattr(client, "set_registered_model_alias", just_before)
    with pytest.raises(RegistryError, match=f"promoted version {theirs} .* this one, version {ours}, is the champion"):
        promote(client, NAME, ours, first)
    assert rollback(client, NAME) == (ours, theirs)
    assert rollback(client, NAME) == (theirs, first)


def test_a_memory_that_another_machine_overwrites_is_told_and_mended_by_a_retry(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = new_version(client), new_version(client, "fuse-2")
    remember = client.set_registered_model_tag

    def overwritten(name: str, tag: str, value: str) -> None:
        remember(name, tag, value)
        remember(name, tag, json.dumps([theirs]))

    with monkeypatch.context() as patch:
        patch.setattr(client, "set_registered_model_tag", overwritten)
        with pytest.raises(RegistryError, match=r"moment: the tag .* lists \['2'\], not \['1'\]\. Run.* promote on"):
            promote(client, NAME, ours, None)
    assert promote(client, NAME, ours, None) == theirs
    assert rollback(client, NAME) == (ours, theirs)


def test_without_a_champion_there_is_no_way_back(client: MlflowClient) -> None:
    with pytest.raises(RegistryError, match="has no champion"):
        rollback(client, NAME)
    with pytest.raises(RegistryError, match="has no champion"):
        rollback(client, "unknown")


def test_a_version_that_optops_did_not_make_is_named_with_the_remedy(client: MlflowClient) -> None:
    foreign = str(client.create_model_version(NAME, source="file:///nowhere").version)
    client.set_registered_model_alias(NAME, CHAMPION, foreign)
    with pytest.raises(RegistryError, match=r"version 1 of 'phrases' lacks the tags .* optops did not make it"):
        version_by_alias(client, NAME, CHAMPION)
    with pytest.raises(RegistryError, match="did not make it"):
        promote(client, NAME, new_version(client), None)


def test_the_challenger_of_others_keeps_its_alias(client: MlflowClient) -> None:
    foreign = str(client.create_model_version(NAME, source="file:///nowhere").version)
    client.set_registered_model_alias(NAME, CHALLENGER, foreign)
    with pytest.raises(RegistryError, match=r"version 1 of 'phrases' .* did not make it"):
        set_challenger(client, NAME, new_version(client))
    assert str(client.get_model_version_by_alias(NAME, CHALLENGER).version) == foreign


def test_a_champion_that_was_deleted_does_not_stand_in_the_way(client: MlflowClient) -> None:
    first, second = new_version(client), new_version(client, "fuse-2")
    promote(client, NAME, first, None)
    promote(client, NAME, second, first)
    client.delete_model_version(NAME, first)
    with pytest.raises(RegistryError, match="only champion"):
        rollback(client, NAME)
    assert champion(client) == second
