"""Runs the servers of one guard, and ends them when the owner of the guard ends.

guard.rs starts this program. It reads one JSON request per line from standard input, and answers each
with one JSON line on standard output. Only the owner holds the other end of standard input. When that
pipe closes, for any reason, the keeper kills all processes that it started with their descendants. It
also removes the scratch folder and the control groups. Each server has its own session, so Ctrl-C in a
terminal does not reach it. As "subreaper", the keeper inherits orphans of the servers, also daemons.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LIBC = ctypes.CDLL(None)
POLL = 0.005
GROUPS = "/sys/fs/cgroup"


def processes():
    """Yields (pid, parent, session) of every process that has not ended."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    state, parent, _group, session = stat.read().rpartition(b")")[2].split()[:4]
            except OSError:
                continue
            if state not in (b"Z", b"X"):
                yield int(entry), int(parent), int(session)


def descendants():
    children = {}
    for pid, parent, _ in processes():
        children.setdefault(parent, []).append(pid)
    found, new = [], [os.getpid()]
    while new:
        new = [child for pid in new for child in children.get(pid, ())]
        found += new
    return found


def kill(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def removed(group):
    """Removes a control group with its subgroups. Returns true if it is gone."""
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            pass  # a process in it has not ended yet
    return not os.path.exists(group)


def die_with_keeper():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Keeper:
    def __init__(self, scratch):
        self.scratch = scratch
        self.servers = {}
        self.groups = []

    def group(self, name):
        """Creates a control group of this name in every hierarchy. It is removed at the end."""
        version_2 = os.path.exists(f"{GROUPS}/cgroup.controllers")
        for hierarchy in ["."] if version_2 else os.listdir(GROUPS):
            group = f"{GROUPS}/{hierarchy}/{name}"
            self.groups.append(group)
            os.makedirs(group, exist_ok=True)
            if hierarchy == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    with open(f"{GROUPS}/{hierarchy}/{file}") as source, open(f"{group}/{file}", "w") as target:
                        target.write(source.read())

    def start(self, name, argv, env, unset, cwd):
        old = self.servers.get(name)
        if old and self.members(name):
            raise RuntimeError(f"{name} is still running")
        environment = {**os.environ, **env}
        for key in unset:
            environment.pop(key, None)
        with open(f"{self.scratch}/{name}.out", "ab") as out, open(f"{self.scratch}/{name}.err", "ab") as err:
            self.servers[name] = subprocess.Popen(
                argv, env=environment, cwd=cwd or self.scratch, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True, preexec_fn=die_with_keeper)
        return self.servers[name].pid

    def members(self, name):
        """Returns the processes of the server's session, with its helpers."""
        session = self.servers[name].pid
        return [pid for pid, _, its in processes() if its == session]

    def signal(self, name, number):
        kill(self.members(name), number)

    def exited(self, name):
        """Returns the exit code (negative: the signal), or null while the server runs."""
        return self.servers[name].poll()

    def stop(self, name, grace):
        """Sends SIGTERM, and SIGKILL after `grace` seconds. Returns true if SIGTERM was enough."""
        deadline = time.monotonic() + grace
        kill(self.members(name), signal.SIGTERM)
        kill(self.members(name), signal.SIGCONT)
        clean = True
        while self.exited(name) is None or self.members(name):
            if time.monotonic() > deadline:
                clean = False
                kill(self.members(name), signal.SIGKILL)
            time.sleep(POLL)
        return clean

    def kill(self, name):
        while self.exited(name) is None or self.members(name):
            kill(self.members(name), signal.SIGKILL)
            time.sleep(POLL)

    def serve(self):
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = {"ok": getattr(self, request.pop("do"))(**request)}
            except Exception as error:
                answer = {"error": f"{error}"}
            print(json.dumps(answer), flush=True)

    def end(self):
        deadline = time.monotonic() + 20
        try:
            while time.monotonic() < deadline:
                kill(descendants(), signal.SIGKILL)
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
                time.sleep(POLL)
        except ChildProcessError:
            pass  # no child is left, so no descendant is: the keeper inherits orphans
        for group in self.groups:
            while time.monotonic() < deadline and not removed(group):
                time.sleep(POLL)
        shutil.rmtree(self.scratch, ignore_errors=True)


def leave(*_):
    """Handles the first signal to the keeper like the end of the pipe."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(1)


for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, leave)
LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
keeper = Keeper(tempfile.mkdtemp(prefix=f"{sys.argv[1]}-"))
try:
    print(json.dumps({"ok": keeper.scratch}), flush=True)
    keeper.serve()
except BrokenPipeError:
    pass
finally:
    keeper.end()
