"""The first process of a host. It mounts the host's private folders, starts its sshd, and ends the host when it ends.

It ends when its standard input is closed, at the end of its parent process, and with the first process of a pid
namespace the kernel ends all others: no host outlives its tests, however they end. It needs the standard library
alone because it starts before any other file of the host exists.
"""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

SETTINGS = json.loads(sys.argv[1])


def main() -> None:
    for command in (["ip", "link", "set", "lo", "up"], ["hostname", SETTINGS["name"]]):
        subprocess.run(command, check=True)
    kept = {path: os.open(path, os.O_PATH) for path in SETTINGS["kept"]}
    bound = {path: os.open(source, os.O_PATH) for path, source in SETTINGS["bound"].items()}
    for path in ("/dev/shm", "/tmp", "/run", "/mnt"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", path], check=True)
    # The home folder comes first: kept folders may lie in it.
    for path, descriptor in [*bound.items(), *kept.items()]:
        bind(path, descriptor)
    Path("/run/sshd").mkdir(mode=0o755)
    subprocess.run(["/usr/sbin/sshd", "-f", SETTINGS["sshd"]], check=True)
    print("up", flush=True)
    wait_for_the_end()


def bind(path: str, descriptor: int) -> None:
    """Mount the folder of the descriptor at `path`, even if its own path is hidden now."""
    target = Path(path)
    if Path(f"/proc/self/fd/{descriptor}").is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    source = f"/proc/{os.getpid()}/fd/{descriptor}"
    # The path behind the descriptor may name another folder by now, so it must not be resolved.
    subprocess.run(["mount", "--no-canonicalize", "--bind", source, path], check=True)
    os.close(descriptor)


def wait_for_the_end() -> None:
    """Reap dead processes until the other end of standard input is closed."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        reap()
        ready, _, _ = select.select([0, reader], [], [])
        if reader in ready:
            os.read(reader, 4096)
        if 0 in ready and not os.read(0, 1):
            return


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    main()
