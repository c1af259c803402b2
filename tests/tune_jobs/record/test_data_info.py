"""The encoding of rows is read back unchanged, or refused."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tune_jobs.driver.preparation import prepare
from tune_jobs.errors import DamagedRun
from tune_jobs.job.job import Job
from tune_jobs.record.data_info import read_info, write_info
from tune_jobs.trainers.data import DataInfo


@pytest.fixture(scope="module")
def info(make_sections: Any) -> DataInfo:
    return prepare(Job.from_mapping(make_sections())).info


@pytest.fixture
def path(tmp_path: Path, info: DataInfo) -> Path:
    write_info(info, tmp_path / "data.json")
    return tmp_path / "data.json"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_comes_back_as_it_was(path: Path, info: DataInfo) -> None:
    assert read_info(path, sha256(path)).to_mapping() == info.to_mapping()


def test_a_missing_checksum_is_damage(path: Path, info: DataInfo) -> None:
    path.write_text(json.dumps(info.to_mapping()))
    with pytest.raises(DamagedRun, match="it does not match its checksum"):
        read_info(path, sha256(path))


def test_the_encoding_of_another_run_is_damage_although_its_checksum_matches(
    path: Path, info: DataInfo
) -> None:
    begun = sha256(path)
    write_info(dataclasses.replace(info, outputs=7), path)
    for expected in (begun, None):
        with pytest.raises(DamagedRun, match="it is not the file with which the run began"):
            read_info(path, expected)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b"\xff", None])
def test_damage_is_one_error_that_says_what_to_do(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(DamagedRun) as caught:
        read_info(path, "")
    assert str(caught.value).startswith(f"{path}: cannot be read (")
    assert str(caught.value).endswith(
        "); restore it from a copy, or from another run on the same data and the same split"
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_flipped_bit_or_a_missing_end_is_noticed_or_does_not_matter(
    path: Path, info: DataInfo, place: float, bit: int, cut: bool
) -> None:
    write_info(info, path)
    begun, content = sha256(path), bytearray(path.read_bytes())
    position = int(place * len(content))
    content[position] ^= 1 << bit
    path.write_bytes(content[:position] if cut else content)
    try:
        found = read_info(path, begun)
    except DamagedRun:
        return
    assert found.to_mapping() == info.to_mapping()
