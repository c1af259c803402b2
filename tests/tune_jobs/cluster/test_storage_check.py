"""Storage that not all nodes share is found before the first trial, and the message says what to do."""

import pickle
from pathlib import Path

import pytest

from tests.tune_jobs.remote.object_stores import environment, s3, s3_address
from tune_jobs.cluster.storage_check import StorageCheck
from tune_jobs.errors import ResourceError, RunFolderError
from tune_jobs.location import Location

__all__ = ["s3", "s3_address"]


def sent(check: StorageCheck) -> StorageCheck:
    """Return the check as it arrives on another node."""
    return pickle.loads(pickle.dumps(check))


def test_a_folder_that_all_share(tmp_path: Path) -> None:
    check = StorageCheck.put(tmp_path)
    nodes = ["10.0.0.1", "10.0.0.2", "node/with:odd name"]
    answers = {node: sent(check).answer(node) for node in nodes}
    assert set(answers.values()) == {None}
    assert check.missing(nodes) == []
    check.raise_unless_shared(answers)
    check.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_bucket(s3: Location) -> None:
    check = StorageCheck.put(s3)
    answers = {node: sent(check).answer(node) for node in ("a", "b")}
    check.raise_unless_shared(answers)
    check.remove()
    with pytest.raises(ResourceError, match="the driver's file is missing"):
        check.raise_unless_shared({"a": check.answer("a")})


def test_a_folder_of_another_machine(tmp_path: Path) -> None:
    """The same path leads to another disk: it has no file of the driver, and no file is left there."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    check = StorageCheck.put(tmp_path / "here")
    elsewhere = StorageCheck(tmp_path / "there", check.name)
    answers = {"head": check.answer("head"), "far": elsewhere.answer("far")}
    with pytest.raises(ResourceError) as caught:
        check.raise_unless_shared(answers)
    text = str(caught.value)
    assert "wrong on 1 of 2 nodes: far (the driver's file is missing)" in text
    assert "local to one node" in text
    assert "s3://bucket/prefix" in text
    assert list((tmp_path / "there").iterdir()) == []


def test_a_node_that_reads_and_writes_elsewhere(tmp_path: Path) -> None:
    """This is like a copy of the folder: the token exists, but the driver does not see the answer."""
    import shutil

    (tmp_path / "here").mkdir()
    check = StorageCheck.put(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    assert StorageCheck(tmp_path / "copy", check.name).answer("far") is None
    assert check.missing(["far"]) == ["far"]
    with pytest.raises(ResourceError, match="its file is not visible from here"):
        check.raise_unless_shared({"far": None})


def test_many_nodes_are_not_all_named(tmp_path: Path) -> None:
    check = StorageCheck.put(tmp_path)
    with pytest.raises(ResourceError) as caught:
        check.raise_unless_shared({f"node-{number}": "no way" for number in range(40)})
    assert "40 of 40 nodes" in str(caught.value)
    assert "node-4 (no way), 35 more" in str(caught.value)


@pytest.mark.slow
def test_a_store_that_a_node_cannot_reach(s3: Location) -> None:
    check = StorageCheck.put(s3)
    with environment({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}):
        answer = sent(check).answer("far")
    assert answer == "it cannot be reached at http://127.0.0.1:9"
    with pytest.raises(ResourceError, match=r"cannot be used on 1 of 1 nodes: far \(it cannot be reached"):
        check.raise_unless_shared({"far": answer})


def test_a_place_that_the_driver_cannot_write_to(s3: Location) -> None:
    with pytest.raises(RunFolderError, match="there is no such bucket"):
        StorageCheck.put(Location("s3", "no-such-bucket"))
    with pytest.raises(RunFolderError, match="cannot be written to"):
        StorageCheck.put(Path("/proc/nowhere"))
