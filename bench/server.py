"""A throw-away PostgreSQL server: own data directory, unix socket only, gone when the measuring ends."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "50",
    "max_wal_size": "32GB",
    "min_wal_size": "4GB",
    "checkpoint_timeout": "1d",
    "autovacuum": "off",
    "jit": "off",
    "synchronous_commit": "off",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "work_mem": "64MB",
    "maintenance_work_mem": "1GB",
    "shared_buffers": "4GB",
    "log_checkpoints": "off",
}
USER = "postgres"
BACKEND_END_SECONDS = 5        # how long backends may take to end after their clients did


def cpu_seconds(pid, children=False):
    """CPU seconds (user and system) of a process, or of its children that have ended."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    first = 13 if children else 11
    return (int(fields[first]) + int(fields[first + 1])) / os.sysconf("SC_CLK_TCK")


def children(pid):
    """Process ids (text) of a process's children; none when it is gone."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
            return file.read().split()
    except (OSError, ProcessLookupError):
        return []


class Watch:
    """A thread that runs `watch` from entering a `with` block to leaving it; `stopping` tells it to end."""

    def __init__(self):
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.stopping.set()
        self.thread.join()


def client_backends(postmaster):
    """How many of the server's processes serve clients (by their titles), or have ended but are not counted yet."""
    count = 0
    for pid in children(postmaster):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as title:
                words = title.read()
        except OSError:
            continue           # it ended meanwhile
        count += b"[local]" in words or not words      # a process that has ended has no title
    return count


class ServerError(Exception):
    """The server could not be made or started; the message says why and what to do."""


def bin_dir(pg_config):
    """The folder of the server's programs, from its pg_config."""
    try:
        answer = subprocess.run([pg_config, "--bindir"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServerError(f"{pg_config}: cannot run it ({error}); pass --pg-config or set PG_CONFIG") from error
    found = answer.stdout.strip()
    if not os.path.exists(os.path.join(found, "initdb")):
        raise ServerError(f"{found}: no initdb there: install the server package, or pass another --pg-config")
    return found


class Server:
    """Starts on entering a `with` block, is stopped and removed on leaving it."""

    def __init__(self, pg_config, port=54315, folder=None, keep=False, settings=None):
        self.programs = bin_dir(pg_config)
        self.port = port
        self.keep = keep
        self.settings = {**SETTINGS, **(settings or {})}
        self.folder = folder or tempfile.mkdtemp(prefix="spfresh-bench-", dir="/var/tmp")
        self.made_folder = folder is None
        self.data = os.path.join(self.folder, "data")
        self.socket = os.path.join(self.folder, "socket")
        self.started = self.made_data = False

    def program(self, name):
        return os.path.join(self.programs, name)

    def as_server_user(self, command):
        """The command, run as user postgres when this process is root (initdb refuses root)."""
        if os.getuid() != 0:
            return command
        try:
            pwd.getpwnam(USER)
        except KeyError as missing:
            raise ServerError("running as root needs a system user postgres to run the server as") from missing
        return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--"] + command

    def run(self, command, what):
        answer = subprocess.run(self.as_server_user(command), capture_output=True, text=True, cwd="/",
                                env={"PATH": "/usr/bin:/bin", "HOME": self.folder, "LC_ALL": "C"})
        if answer.returncode:
            raise ServerError(f"{what} failed: {answer.stderr.strip() or answer.stdout.strip()}")

    def make(self):
        """Creates the data directory and its configuration; never touches one that is there already."""
        if os.path.exists(self.data):
            raise ServerError(f"{self.data} exists already: remove it, or pass another --server-dir")
        os.makedirs(self.socket, exist_ok=True)
        if os.getuid() == 0:
            for folder in (self.folder, self.socket):
                shutil.chown(folder, USER, USER)
        self.run([self.program("initdb"), "-D", self.data, "-U", USER, "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync"], "initdb")
        self.made_data = True
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write(f"port = {self.port}\nunix_socket_directories = '{self.socket}'\n")
        self.configure(self.settings)

    def configure(self, settings):
        """Adds settings to the configuration, for the next start; later ones win."""
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            for name, value in settings.items():
                file.write(f"{name} = '{value}'\n")

    def start(self):
        self.make()
        self.launch()

    def launch(self):
        """Starts the server on its data directory."""
        log = os.path.join(self.folder, "server.log")
        try:
            self.run([self.program("pg_ctl"), "-D", self.data, "-l", log, "-w", "-t", "120", "start"], "pg_ctl start")
        except ServerError as error:
            tail = open(log, encoding="utf-8").read()[-2000:] if os.path.exists(log) else ""
            raise ServerError(f"{error}\n{tail}") from error
        self.started = True

    def restart(self, between=lambda: None):
        """A clean stop, `between()` while no server runs, and a start."""
        self.started = False
        self.run([self.program("pg_ctl"), "-D", self.data, "-m", "fast", "-w", "stop"], "pg_ctl stop")
        between()
        self.launch()

    def stop(self):
        if self.started:
            self.started = False
            try:
                self.run([self.program("pg_ctl"), "-D", self.data, "-m", "immediate", "-w", "stop"], "pg_ctl stop")
            except ServerError as error:       # never hides why the measuring ended
                print(error, file=sys.stderr)
        if self.keep:
            return
        if self.made_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self.made_data:
            shutil.rmtree(self.data, ignore_errors=True)

    def pid(self):
        """The process id of the postmaster."""
        with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as file:
            return int(file.readline())

    def finished_cpu(self):
        """CPU seconds (user and system) of all server processes that have ended so far; steps of 10 ms."""
        pid = self.pid()
        deadline = time.monotonic() + BACKEND_END_SECONDS
        while client_backends(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        return cpu_seconds(pid, children=True)

    def log_tail(self, characters=2000):
        """The end of the server's log, for messages about a crash."""
        try:
            with open(os.path.join(self.folder, "server.log"), encoding="utf-8", errors="replace") as file:
                return file.read()[-characters:]
        except OSError:
            return ""

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *unused):
        self.stop()
