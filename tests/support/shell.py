"""Commands as the user gives them, and the end of all that they started."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ODENAS = [sys.executable, "-c", "from odenas.search.app import main; main()"]
PATIENCE = 240.0


@dataclass
class Shell:
    """Starts commands in a folder, and sees to it that nothing of them is left."""

    folder: Path
    started: dict[int, str] = field(default_factory=dict)
    """Process id -> when it started, of all that belonged to the commands."""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command without waiting for it."""
        process = subprocess.Popen(
            [*ODENAS, *arguments], cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.note(process.pid)
        return process

    def end(self, process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        """Wait for the end of a command."""
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.note(process.pid)
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return self.end(self.start(*arguments))

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill a command, which has no time to say a word, and remember what it leaves behind."""
        self.note(process.pid)
        process.kill()
        process.communicate()

    def note(self, pid: int) -> dict[int, str]:
        """Remember a process and all that descend from it; return what each of them runs."""
        table = processes()
        family = {pid}
        while grown := {child for child, (parent, _, _) in table.items() if parent in family} - family:
            family |= grown
        self.started |= {one: table[one][1] for one in family if one in table}
        return {one: table[one][2] for one in family if one in table}

    def left(self) -> list[int]:
        """Return what is still there of what was noted."""
        table = processes()
        return [pid for pid, begun in self.started.items() if pid in table and table[pid][1] == begun]

    def settled(self, seconds: float = 60) -> bool:
        """Return whether all that was noted is gone, or goes soon."""
        deadline = time.monotonic() + seconds
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.5)
        return not self.left()

    def close(self) -> None:
        """End what is left."""
        self.settled(20)
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def processes() -> dict[int, tuple[int, str, str]]:
    """Return parent, time of start and command of each living process."""
    columns = ["ps", "-ww", "-eo", "pid=,ppid=,lstart=,stat=,args="]
    lines = subprocess.run(columns, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {}
    for line in lines:
        pid, parent, *rest = line.split(None, 8)
        begun, state, command = " ".join(rest[:5]), rest[5], " ".join(rest[6:])
        if not state.startswith("Z"):
            found[int(pid)] = (int(parent), begun, command)
    return found
