"""Machines made of namespaces: each has its own network card, processes, folders and sshd, and can be switched off.

Everything depends on processes that end with their parent: namespaces, the cards and cables between them and
mounts are gone with the last process in them. The switch has a separate network namespace: no address of
the machine itself conflicts with it, and no packet leaves it.
"""

import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.processes import PATIENCE

REPOSITORY = Path(__file__).resolve().parents[2]
HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
"""The home folder in which sshd looks for keys. It ignores `HOME`."""
SHARED = Path("/mnt/shared")
"""Path of the folder that hosts share, as over NFS."""
PRIVATE = Path("/mnt/private")
"""Path of a private folder, a different one on each host."""
_SUBNET = "10.77.0."
_NEEDED = ("ip", "unshare", "nsenter", "ssh", "ssh-keygen", "rsync", "mount", "hostname")
_SSHD = """
ListenAddress 0.0.0.0
HostKey {key}
PidFile none
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
MaxStartups 100
MaxSessions 100
PrintMotd no
"""
_SSH = """
Host *
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""


def why_impossible() -> str | None:
    """Return the reason why no hosts can be made here, or None if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "hosts are made of Linux namespaces, by root"
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if not Path("/usr/sbin/sshd").is_file():
        missing.append("sshd")
    if missing:
        return (
            f"not installed: {', '.join(missing)} (Debian: iproute2, openssh-server, openssh-client, rsync)"
        )
    try_one = ["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "--mount-proc", "true"]
    tried = subprocess.run(try_one, capture_output=True, text=True, check=False)
    return f"no namespaces can be made: {tried.stderr.strip()}" if tried.returncode else None


class Host:
    """One machine, off until `boot`. It keeps the files in its home folder and in `PRIVATE` while it is off.

    Args:
        name: Its host name, which all hosts know.
        address: The address of its network card.
        disk: A folder of the test machine for the files that the host keeps.
        shared: A folder of the test machine that the host sees as `SHARED`, or None.
        network: The network that it is connected to.
    """

    def __init__(self, name: str, address: str, disk: Path, shared: Path | None, network: "Network") -> None:
        self.name = name
        self.address = address
        self.home = disk / "home"
        self.private = disk / "private"
        self._disk = disk
        self._shared = shared
        self.network = network
        self._cable = ""
        self._process: subprocess.Popen[str] | None = None
        self._first = 0
        self._commands: list[Command] = []
        self.variables: dict[str, str] = {}
        """Further environment variables for its user's commands, but not for commands over ssh."""
        for folder in (self.home, self.private):
            folder.mkdir(parents=True)

    @property
    def is_up(self) -> bool:
        return self._process is not None

    def boot(self) -> None:
        """Switch it on and return when its sshd answers. Nothing else runs then."""
        assert self._process is None, f"{self.name} is up"
        settings = {
            "name": self.name,
            "sshd": str(self._sshd()),
            "kept": sorted(_programs() | {str(self._disk)}),
            "bound": {str(path): str(source) for path, source in self._bound().items()},
        }
        unshare = [
            "unshare",
            "--net",
            "--uts",
            "--ipc",
            "--pid",
            "--mount",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        command = [*unshare, sys.executable, "-I", "-S", str(Path(__file__).with_name("first_process.py"))]
        said = self._disk / "boot.log"
        with said.open("a") as log:
            self._process = subprocess.Popen(
                [*command, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "up\n":
            self._process.communicate(timeout=PATIENCE)
            self._process = None
            raise AssertionError(f"{self.name} does not boot: {said.read_text()}")
        (self._first,) = children_of(self._process.pid)
        self._cable = self.network.plug_in(self._first, self.address)

    def kill(self) -> None:
        """Kill all its processes at once. The other hosts see their connections close."""
        if self._process is None:
            return
        first = os.pidfd_open(self._first)
        signal.pidfd_send_signal(first, signal.SIGKILL)
        assert select.select([first], [], [], 60)[0], f"processes of {self.name} do not end"
        os.close(first)
        self._process.communicate(timeout=PATIENCE)
        self._process = None
        for command in self._commands:
            command.end()

    def lose_power(self) -> None:
        """Kill all its processes without a packet to the other hosts: they do not see their connections close."""
        self.cut()
        self.kill()

    def cut(self) -> None:
        """Cut its cable: no packet arrives or leaves."""
        self.network.switch("ip", "link", "set", self._cable, "down")

    def mend(self) -> None:
        """Connect the cable again."""
        self.network.switch("ip", "link", "set", self._cable, "up")

    def received(self) -> int:
        """Return the bytes that its network card has received since it booted."""
        for line in Path(f"/proc/{self._first}/net/dev").read_text().splitlines():
            card, _, counters = line.partition(":")
            if card.strip() == "eth0":
                return int(counters.split()[0])
        raise AssertionError(f"{self.name} has no network card")

    def processes(self, *, word: str) -> list[str]:
        """Return the command lines of its processes that contain `word`."""
        found = []
        namespace = os.readlink(f"/proc/{self._first}/ns/pid")
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "ns/pid") == namespace:
                    found.append((process / "cmdline").read_text().replace("\0", " ").strip())
            except OSError:
                continue
        return [line for line in found if word in line]

    def start(self, *command: str) -> "Command":
        """Start a command on it in its user's home folder."""
        made = Command(self, command, self._disk / f"said-{len(self._commands)}.log")
        self._commands.append(made)
        return made

    def run(self, *command: str) -> str:
        """Run a command and return its output.

        Raises:
            AssertionError: It fails, or takes longer than PATIENCE.
        """
        return self.start(*command).succeed()

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return `command` with the prefix that runs it on this host."""
        return ["nsenter", "--target", str(self._first), "--all", f"--wdns={HOME}", "--", *command]

    def _bound(self) -> Mapping[Path, Path]:
        """Return the folders of the test machine that it sees, by their paths on the host."""
        bound = {HOME: self.home, PRIVATE: self.private, Path("/etc/hosts"): self.network.names}
        return bound if self._shared is None else {**bound, SHARED: self._shared}

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the environment of its user's commands: the path of the programs and nothing of the test machine."""
        path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables = {"HOME": str(HOME), "PATH": path, "LANG": "C.UTF-8", "PYTHONPATH": str(REPOSITORY)}
        return {**variables, "PYTHONDONTWRITEBYTECODE": "1", **self.variables}

    def _sshd(self) -> Path:
        """Write the keys and settings of its sshd and of its user."""
        key = self._disk / "host_key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
            secrets = self.home / ".ssh"
            secrets.mkdir(mode=0o700)
            (secrets / "authorized_keys").write_text(self.network.key.with_suffix(".pub").read_text())
            (secrets / "config").write_text(_SSH)
        settings = self._disk / "sshd_config"
        settings.write_text(_SSHD.format(key=key))
        return settings


class Command:
    """A command on a host. Its output goes into the file `output`, so it never waits for a reader."""

    def __init__(self, host: Host, command: Sequence[str], output: Path) -> None:
        self._what = f"{host.name}: {' '.join(command)}"
        self._output = output
        with output.open("w") as file:
            self._process = subprocess.Popen(
                host.inside(command),
                env=host.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        """The output of both streams up to now."""
        return self._output.read_text(errors="replace")

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, seconds: float) -> int:
        """Wait for its end and return its exit code."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"{self._what}: takes more than {seconds} s\n{self.said}") from None

    def succeed(self, seconds: float = PATIENCE) -> str:
        """Wait for its success and return its whole output.

        Raises:
            AssertionError: It fails, or takes longer than PATIENCE.
        """
        code = self.wait(seconds)
        assert code == 0, f"{self._what}: {code}\n{self.said}"
        return self.said

    def end(self) -> None:
        """Kill it if it runs."""
        for child in children_of(self._process.pid):  # the command itself: `nsenter` waits for it
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._process.wait(PATIENCE)


@dataclass(frozen=True)
class Network:
    """A switch and the cables of the hosts.

    Attributes:
        key: The private ssh key that every host accepts.
        names: The content of /etc/hosts on each host.
    """

    folder: Path
    key: Path
    names: Path
    _process: "subprocess.Popen[bytes]"
    _numbers: Iterator[int]

    def switch(self, *command: str) -> None:
        """Run a command in the network namespace of the switch."""
        inside = ["nsenter", "--target", str(self._process.pid), "--net", "--"]
        subprocess.run([*inside, *command], check=True, timeout=PATIENCE)

    def plug_in(self, process: int, address: str) -> str:
        """Give the network namespace of `process` a card with this address and return the other end of its cable."""
        cable = f"cable{next(self._numbers)}"  # a cable that was pulled out disappears a little later
        self.switch("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(process))
        self.switch("ip", "link", "set", cable, "master", "switch", "up")
        card = ["nsenter", "--target", str(process), "--net", "--", "ip"]
        # A fixed hardware address: the others would look for a rebooted host at its old one otherwise.
        last = int(address.rpartition(".")[2])
        subprocess.run([*card, "link", "set", "eth0", "address", f"02:00:00:00:00:{last:02x}"], check=True)
        subprocess.run([*card, "address", "add", f"{address}/24", "dev", "eth0"], check=True)
        subprocess.run([*card, "link", "set", "eth0", "up"], check=True)
        return cable


@contextmanager
def hosts(
    folder: Path, names: Sequence[str], *, off: Sequence[str] = (), apart: Sequence[str] = ("laptop",)
) -> Iterator[Mapping[str, Host]]:
    """Yield hosts with these names, and remove everything that was made for them after the block.

    Args:
        folder: An empty folder for their disks. They see `folder / "shared"` as `SHARED`.
        off: The hosts that are not switched on.
        apart: The hosts that do not see `SHARED`.
    """
    key, shared, table = folder / "key", folder / "shared", folder / "hosts"
    shared.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    addresses = {name: f"{_SUBNET}{number}" for number, name in enumerate(names, start=1)}
    lines = [f"{address} {name}\n" for name, address in addresses.items()]
    table.write_text("127.0.0.1 localhost\n" + "".join(lines))
    process = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
    network = Network(folder, key, table, process, count(1))
    made = {
        name: Host(name, address, folder / name, None if name in apart else shared, network)
        for name, address in addresses.items()
    }
    try:
        wait_for_namespace(process.pid)
        network.switch("ip", "link", "add", "switch", "type", "bridge")
        network.switch("ip", "link", "set", "switch", "up")
        for host in made.values():
            if host.name not in off:
                host.boot()
        yield made
    finally:
        for host in made.values():
            host.kill()
        process.communicate(timeout=PATIENCE)


def _programs() -> set[str]:
    """Return the folders of the programs under test and of their libraries."""
    paths = {str(REPOSITORY), sys.prefix, os.path.realpath(sys.prefix), sys.base_prefix}
    return paths - {"/", "/usr", "/usr/local"}


def children_of(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except FileNotFoundError:
        return []


def wait_for_namespace(process: int) -> None:
    """Wait until `process` has a separate network namespace."""
    deadline = time.monotonic() + PATIENCE
    ours = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{process}/ns/net") == ours:
        assert time.monotonic() < deadline
        time.sleep(0.01)
