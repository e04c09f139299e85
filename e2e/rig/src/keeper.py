"""Keeps the servers of one guard, and ends them when the process that asked for them is gone.

Started by guard.rs. Takes one JSON request a line on standard input and answers each with one JSON
line on standard output. Standard input is a pipe whose other end only that process holds: when it
closes, for whatever reason, every process started here is killed with all of its descendants, and
the scratch folder is removed, with the control groups that were asked for. The servers live in sessions of their own, so Ctrl-C in a terminal
does not reach them; as "subreaper" the keeper inherits whatever they leave behind (daemons too).
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
    """(pid, parent, session) of every process that has not ended."""
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
    """Whether a control group is gone, after an attempt to remove it with those in it."""
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            pass  # a process in it has not ended yet
    return not os.path.exists(group)


def die_with_the_keeper():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Keeper:
    def __init__(self, scratch):
        self.scratch = scratch
        self.servers = {}
        self.groups = []

    def group(self, name):
        """Makes a control group (version 1) of this name in every hierarchy; removed at the end."""
        for hierarchy in os.listdir(GROUPS):
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
                start_new_session=True, preexec_fn=die_with_the_keeper)
        return self.servers[name].pid

    def members(self, name):
        """The processes of the server's session: its helpers too."""
        session = self.servers[name].pid
        return [pid for pid, _, its in processes() if its == session]

    def signal(self, name, number):
        kill(self.members(name), number)

    def exited(self, name):
        """The exit code (negative: the signal), or null while it runs."""
        return self.servers[name].poll()

    def stop(self, name, grace):
        """Asks politely; what is still there after `grace` seconds is killed."""
        deadline = time.monotonic() + grace
        kill(self.members(name), signal.SIGTERM)
        kill(self.members(name), signal.SIGCONT)
        polite = True
        while self.exited(name) is None or self.members(name):
            if time.monotonic() > deadline:
                polite = False
                kill(self.members(name), signal.SIGKILL)
            time.sleep(POLL)
        return polite

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
            pass  # no child is left, so no descendant: orphans become ours
        for group in self.groups:
            while time.monotonic() < deadline and not removed(group):
                time.sleep(POLL)
        shutil.rmtree(self.scratch, ignore_errors=True)


def leave(*_):
    """A signal to the keeper itself: the same as the closing of the pipe, once."""
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
