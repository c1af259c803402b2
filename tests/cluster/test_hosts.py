"""Hosts made of namespaces are apart from each other and from this machine, and leave nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cluster.cluster import wait_until
from tests.cluster.hosts import HOME, PRIVATE, SHARED, Host, hosts
from tests.processes import PATIENCE, start


@pytest.fixture(scope="module")
def pair(disks: Path) -> Iterator[Mapping[str, Host]]:
    with hosts(disks, ["one", "two"]) as made:
        (made["one"].home / "key").write_bytes(made["one"].network.key.read_bytes())
        (made["one"].home / "key").chmod(0o600)
        yield made


def test_each_has_an_own_name_and_own_processes(pair: Mapping[str, Host]) -> None:
    for name, host in pair.items():
        assert host.run("hostname").strip() == name
        assert 0 < len(host.run("ps", "ax", "-o", "pid=").splitlines()) < 10


@pytest.mark.parametrize("folder", [HOME, PRIVATE, Path("/tmp"), Path("/dev/shm")])
def test_folders_are_private(pair: Mapping[str, Host], folder: Path) -> None:
    pair["one"].run("touch", f"{folder}/mine")
    assert "mine" not in pair["two"].run("ls", "-a", str(folder))
    assert not (folder / "mine").exists()


def test_one_folder_is_shared(pair: Mapping[str, Host], disks: Path) -> None:
    pair["one"].run("touch", f"{SHARED}/ours")
    assert "ours" in pair["two"].run("ls", str(SHARED))
    assert (disks / "shared" / "ours").exists()


def test_they_reach_each_other_over_ssh_and_no_other_machine(pair: Mapping[str, Host]) -> None:
    assert pair["one"].run("ssh", "-i", "key", "two", "hostname").strip() == "two"
    assert pair["one"].start("ip", "route", "get", "8.8.8.8").wait(PATIENCE) != 0
    ours = subprocess.run(["ip", "address"], check=True, capture_output=True, text=True).stdout
    assert pair["two"].address not in ours


@pytest.mark.slow
def test_one_that_is_cut_off_receives_nothing(pair: Mapping[str, Host]) -> None:
    two = ["ssh", "-i", "key", "-o", "ConnectTimeout=2", "two", "true"]
    pair["two"].cut()
    assert pair["one"].start(*two).wait(PATIENCE) != 0
    pair["two"].mend()
    wait_until(lambda: pair["one"].start(*two).wait(PATIENCE) == 0, "the cable")


def test_bytes_that_arrive_are_counted(pair: Mapping[str, Host]) -> None:
    before = pair["two"].received()
    send = "head -c 1000000 /dev/urandom | ssh -i key two 'cat > /dev/null'"
    pair["one"].run("bash", "-c", send)
    assert 1_000_000 < pair["two"].received() - before < 1_200_000


def test_one_that_is_switched_off_loses_its_processes_and_keeps_its_disk(pair: Mapping[str, Host]) -> None:
    two = pair["two"]
    sleeper = two.start("bash", "-c", "exec -a sleeper sleep 1000")
    wait_until(lambda: two.processes(word="sleeper") != [], "the command")
    two.run("touch", f"{HOME}/kept", "/tmp/lost")
    two.lose_power()
    assert sleeper.has_ended
    two.boot()
    assert two.processes(word="sleeper") == []
    assert "kept" in two.run("ls", str(HOME))
    assert "lost" not in two.run("ls", "/tmp")


ENDLESS = """
import sys, time
from pathlib import Path
from tests.cluster.hosts import hosts
with hosts(Path(sys.argv[1]), ["one"]) as made:
    made["one"].start("sleep", "1000")
    print("up", flush=True)
    time.sleep(1000)
"""


def test_nothing_outlives_tests_that_are_killed(tmp_path: Path) -> None:
    maker = start([sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    assert maker.stdout.readline() == "up\n"
    assert processes_naming(tmp_path) != []
    os.kill(maker.pid, signal.SIGKILL)
    maker.communicate()
    wait_until(lambda: processes_naming(tmp_path) == [], "their end")


def processes_naming(folder: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return [line for line in found if str(folder) in line]
