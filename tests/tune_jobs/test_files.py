"""Files are replaced in one step or not at all, and a full disk is noticed and named."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tune_jobs.files import PROBE_BYTES, is_of_machine, probe_writable, reason_of, replacing

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/x/study.log")


def test_the_new_content_takes_the_place_of_the_old_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "table"
    for content in (b"old", b"new"):
        with replacing(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_content_is_read_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new" * 100_000)
        file.flush()
        assert path.read_bytes() == b"old"


def test_an_exception_leaves_the_old_content_and_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match="bytes-like"), replacing(path) as file:
        file.writelines([b"ne", "w"])  # type: ignore[list-item]  # fails half way
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_killed_process_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(b"old")
    program = (
        "import os, sys, pathlib\n"
        "from tune_jobs.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'ne'); file.flush(); os._exit(9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == 9
    (left,) = set(tmp_path.iterdir()) - {path}
    assert left.name.startswith(".table.")
    assert path.read_bytes() == b"old"
    other = tmp_path / ".other.123.tmp"
    other.touch()
    with replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert set(tmp_path.iterdir()) == {path, other}, "what was left of the same file is removed"


def test_a_leftover_of_the_same_process_id_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "table"
    with replacing(path) as file:
        temporary = Path(file.name)
    temporary.write_bytes(b"left over, and longer than the new content")
    with replacing(path) as file:
        assert Path(file.name) == temporary
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(bytes(200_000))
    seen: set[tuple[int, frozenset[int]]] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            content = path.read_bytes()
            seen.add((len(content), frozenset(content)))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 60):
            with replacing(path) as file:
                for _ in range(20):
                    file.write(bytes([number]) * 10_000)
                    file.flush()
    finally:
        done.set()
        reader.join()
    assert seen <= {(200_000, frozenset({number})) for number in range(60)}
    assert len(seen) > 1


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    probe_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        probe_writable(tmp_path / "gone")
    assert PROBE_BYTES == 1_000_000


def test_a_full_disk_says_how_much_space_is_left(tmp_path: Path) -> None:
    text = reason_of(FULL, tmp_path)
    assert text.startswith("No space left on device; ")
    assert text.endswith(" MB free")
    assert reason_of(OSError(errno.EROFS, "Read-only file system"), tmp_path) == "Read-only file system"
    assert reason_of(FULL, tmp_path / "gone") == "No space left on device"
    assert reason_of(OSError("of some\nlibrary"), tmp_path) == "of some library"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FULL, True),
        (OSError(errno.ENOSPC, "full"), True),
        (PermissionError(errno.EACCES, "denied", "runs"), True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), True),
        (TimeoutError(), True),
        (OSError(errno.EBADF, "bad file descriptor"), False),
        (OSError("words"), False),
    ],
)
def test_errors_of_the_system_are_distinguished_from_mistakes_of_a_program(
    error: OSError, expected: bool
) -> None:
    assert is_of_machine(error) is expected


@pytest.mark.parametrize("name", ["*", "[a-z]*", "report.html", "**", "?"])
def test_files_of_others_stay_whatever_the_name_of_the_file_is(tmp_path: Path, name: str) -> None:
    others = {".other.123.tmp", ".report.html.backup.tmp", ".report.html.tmp", ".b.7.tmp", ".[a-z]*.x.tmp"}
    for other in others:
        (tmp_path / other).write_text("of somebody else")
    with replacing(tmp_path / name) as file:
        file.write(b"new")
    assert {path.name for path in tmp_path.iterdir()} == {*others, name}
