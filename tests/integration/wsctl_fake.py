"""wsctl, run with a pipe or a terminal, and a server of the test's own that answers it as
the real one never would."""

import fcntl
import json
import os
import pty
import shutil
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import unittest

from harness import BIN, DEADLINE

WSCTL = os.path.join(BIN, "wsctl")

STATUS = {
    "version": "1.2.3", "pid": 77, "uptime_s": 273600, "node": "n1", "epoch": "k3f",
    "connections": 12345, "subscriptions": 999, "channels": 3,
    "feed": {"source": "pubsub", "connected": True, "down_s": 0, "lag_ms": 3},
    "ring": {"size": 67108864, "head": 123456789, "retain": 50331648},
    "messages_in": 1234567, "messages_out": 10, "bytes_out": 1610612736,
    "workers": [
        {"index": 0, "keeper_pid": 1001, "pid": 1002, "cpu": 0, "state": "serving",
         "connections": 12000, "restarts": 1, "adopted": 5, "sent": 10, "lapped": 0,
         "closed_slow": 0, "heartbeat_ms": 20},
        {"index": 1, "keeper_pid": 1003, "pid": 1004, "cpu": 1, "state": "starting",
         "connections": 345, "restarts": 0, "adopted": 0, "sent": 0, "lapped": 0,
         "closed_slow": 0, "heartbeat_ms": 1500},
    ],
}


class FakeServer:
    """Answers each request by what `answer` returns for it: an object, a list of
    objects, bytes sent as they are, or None to hang up."""

    def __init__(self, answer):
        self.dir = tempfile.mkdtemp(prefix="wscast-fake-")
        self.path = os.path.join(self.dir, "control.sock")
        self.answer = answer
        self.requests = []
        self.conn = None
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        self.sock.listen(8)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            self.conn = conn
            with conn, conn.makefile("rb") as lines:
                try:
                    self._serve(conn, lines)
                except OSError:
                    pass

    def _serve(self, conn, lines):
        for line in lines:
            request = json.loads(line)
            self.requests.append(request)
            answer = self.answer(request)
            if answer is None:
                return
            for one in answer if isinstance(answer, list) else [answer]:
                conn.sendall(one if isinstance(one, bytes)
                             else json.dumps(one, separators=(",", ":")).encode()
                             + b"\n")

    def hang_up(self):
        """End the connection that is served now."""
        self.conn.shutdown(socket.SHUT_RDWR)

    def done(self):
        # close() alone does not wake a thread that waits in accept()
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(DEADLINE)
        shutil.rmtree(self.dir, ignore_errors=True)


def environment(**more):
    env = {k: v for k, v in os.environ.items()
           if k not in ("COLUMNS", "NO_COLOR", "WSCAST_SOCKET", "LANG", "LC_ALL")}
    return {**env, "LC_ALL": "C.UTF-8", "TERM": "xterm", **more}


def run(*args, stdin=b"", env=None):
    """(status, standard output, standard error) of wsctl."""
    p = subprocess.run([WSCTL] + list(args), input=stdin, capture_output=True,
                       env=env or environment(), timeout=DEADLINE)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def run_on_terminal(*args, columns=80, env=None):
    """(status, what wsctl prints on a terminal of so many columns)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    p = subprocess.Popen([WSCTL] + list(args), stdin=slave, stdout=slave,
                         stderr=subprocess.DEVNULL, env=env or environment())
    os.close(slave)
    out = b""
    try:
        while True:
            part = os.read(master, 65536)
            if not part:
                break
            out += part
    except OSError:
        pass  # EIO: the terminal's last user is gone
    os.close(master)
    return p.wait(DEADLINE), out.decode().replace("\r\n", "\n")


class FakeCase(unittest.TestCase):
    def fake(self, answer):
        server = FakeServer(answer if callable(answer) else lambda request: answer)
        self.addCleanup(server.done)
        return server

    def ask(self, answer, *args, **kwargs):
        """Run wsctl against a server with this answer; it must succeed."""
        server = self.fake(answer)
        status, out, err = run("-s", server.path, *args, **kwargs)
        self.assertEqual((status, err), (0, ""))
        return out

    def show(self, answer, *args, **kwargs):
        """The same on a terminal."""
        server = self.fake(answer)
        status, out = run_on_terminal("-s", server.path, *args, **kwargs)
        self.assertEqual(status, 0)
        return out
