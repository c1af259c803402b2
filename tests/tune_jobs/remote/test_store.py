"""Objects are read and written whole, and a store that fails says why in plain words."""

import errno
import http.client
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.tune_jobs.remote.object_stores import Proxy, environment, s3_server
from tune_jobs.location import Location
from tune_jobs.remote.servers import server_of
from tune_jobs.remote.store import Store, StoreError, call_with_retries


@pytest.mark.slow
def test_objects_of_all_sizes_come_back(place: Location, tmp_path: Path) -> None:
    store = Store(place)
    large = os.urandom(20 << 20)
    for name, content in (("a/empty", b""), ("a/small", b"text"), ("a/deep/large", large)):
        store.put(name, content)
        assert store.get(name) == content
    (tmp_path / "up").write_bytes(large)
    store.upload(tmp_path / "up", "b")
    store.download("b", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == large
    assert [(stored.name, stored.size) for stored in store.objects()] == [
        ("a/deep/large", len(large)), ("a/empty", 0), ("a/small", 4), ("b", len(large)),
    ]  # fmt: skip
    assert [stored.name for stored in store.objects("a/deep")] == ["a/deep/large"]
    assert (store.folders(), store.folders("a")) == (["a"], ["deep"])


def test_objects_whose_names_are_no_paths_are_passed_over(s3: Location) -> None:
    """Anyone with write access can make these names. Ignoring them keeps every file inside the folder of a copy."""
    store = Store(s3)
    store.put("a/b", b"1")
    for name in ("../up", "a/../../up", "a//b", "/root", "a/./b", "../.."):
        put_raw(f"{s3.prefix}/{name}", s3)
    assert [one.name for one in store.objects()] == ["a/b"]
    assert (store.folders(), store.folders("a")) == (["a"], [])
    store.delete_all("a")
    assert store.objects() == []


def put_raw(name: str, place: Location) -> None:
    """Make an object with any name. pyarrow would refuse some names."""
    server = urlsplit(server_of(place))
    with closing(http.client.HTTPConnection(server.netloc)) as connection:
        connection.request("PUT", f"/{place.bucket}/{quote(name)}", b"1")
        assert connection.getresponse().status == 200, name


def test_deleted_objects_are_gone_and_may_be_deleted_again(place: Location) -> None:
    store = Store(place)
    for name in ("x/1", "x/2", "y"):
        store.put(name, b"1")
    for _ in range(2):
        store.delete("y")
        store.delete_all("x")
    assert store.objects() == []
    with pytest.raises(FileNotFoundError):
        store.get("y")


@pytest.mark.parametrize(
    "end", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt("^C"), SystemExit("over")]
)
def test_a_file_that_is_not_read_to_its_end_leaves_no_part_of_it(
    s3: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    """A disk fails in the middle of a file, or a signal arrives. The store's client cannot cancel an upload."""

    def chunks(*_: object) -> Iterator[bytes]:
        yield bytes(12 << 20)
        raise end

    monkeypatch.setattr("tune_jobs.remote.store._chunks", chunks)
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(type(end)) as caught:
        Store(s3).upload(tmp_path / "file", "x")
    assert str(end) in str(caught.value)
    assert Store(s3).objects() == []


def test_an_object_whose_writing_is_interrupted_is_whole(
    s3: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, interrupted = Store._write, []

    def interrupt(*_: object) -> Iterator[bytes]:
        raise KeyboardInterrupt
        yield b""

    def once(self: Store, name: str, chunks: Iterator[bytes]) -> None:
        """The signal comes when the object is open and no byte is written."""
        interrupted.append(name)
        write(self, name, chunks if len(interrupted) > 1 else interrupt())

    monkeypatch.setattr(Store, "_write", once)
    with pytest.raises(KeyboardInterrupt):
        Store(s3).put("x", b"whole")
    assert Store(s3).get("x") == b"whole"


@pytest.mark.parametrize("ask", ["put", "objects", "folders"])
def test_a_missing_bucket(place: Location, ask: str) -> None:
    store = Store(Location(place.scheme, "no-such-bucket", "x"))
    arguments = ("y", b"1") if ask == "put" else ()
    with pytest.raises(StoreError) as caught:
        getattr(store, ask)(*arguments)
    assert caught.value.strerror == "there is no such bucket"
    assert str(caught.value.filename).startswith(f"{place.scheme}://no-such-bucket/x")


@pytest.mark.slow
def test_a_missing_server(place: Location) -> None:
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}
    with environment(nowhere), pytest.raises(StoreError) as caught:
        Store(place).get("x")
    assert caught.value.strerror == "it cannot be reached at http://127.0.0.1:9"


@pytest.mark.slow
def test_throttling_is_named_and_requests_are_repeated(proxy: Proxy, s3: Location) -> None:
    store = Store(s3)
    store.put("x", b"1")
    proxy.mode = "slow"
    with pytest.raises(StoreError) as caught:
        store.put("x", b"2")
    assert caught.value.strerror == "it asks for fewer requests (throttling)"

    def end_it() -> None:
        proxy.mode = "up"

    call_with_retries(lambda: store.put("x", b"3"), 60.0, end_it)
    assert store.get("x") == b"3"


@pytest.mark.slow
def test_patience_ends(proxy: Proxy, s3: Location) -> None:
    proxy.mode = "down"
    with pytest.raises(StoreError, match="cannot be reached"):
        call_with_retries(lambda: Store(s3).put("x", b"1"), 0.1)
    assert proxy.refused > 0


def test_without_access(s3: Location) -> None:
    """The server accepts two calls, which make the bucket, and then requires credentials."""
    with (
        s3_server(INITIAL_NO_AUTH_ACTION_COUNT="2") as address,
        environment({"AWS_ENDPOINT_URL": address}),
        pytest.raises(StoreError) as caught,
    ):
        Store(s3).put("x", b"1")
    assert str(caught.value.strerror).startswith(
        "access is denied: this machine's environment or role has no"
    )
