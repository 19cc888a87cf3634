# tests/run: alone
"""A connection outlives the process that serves it: kill -9 under load, 100 times.

Every client checks every byte (fleet.py): no socket closes, but of those that are
inside a message of their own; no message is lost, repeated or altered.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fleet import Fleet, Storm, masked, upgrade
from harness import DEADLINE, SANITIZED, alive, descendants, peers_of, wait_until
from storm import Killer, Restarter, StormCase, kill_serving, shoot

CLIENTS = 120 if SANITIZED else 500
KILLS = 20 if SANITIZED else 100


class Kills(StormCase):
    def hits(self, hit, times, gap, clients, early=0.0, talkers=0):
        """A storm on `clients`, and `times` hits meanwhile; returns the killer."""
        fleet = self.storm(clients, talkers=talkers)
        killer = Killer(self.d, hit, times, gap, self.rng, early)
        fleet.jobs += [killer, self.talk]
        fleet.storm.start()
        fleet.run(lambda: "hit %d" % killer.done, lambda: killer.left == 0,
                  timeout=90 + 2 * DEADLINE)
        return killer

    def test_adoption_kill_serving_loses_no_byte(self):
        killer = self.hits(kill_serving, KILLS, 0.35, CLIENTS, early=0.02, talkers=20)
        self.d.wait_serving()
        adopted = self.d.counter("adopted")
        self.assertGreater(adopted, 0)
        cut = self.over(killer)
        print("%d kills, %d adopted, %d of them lagging, %d talkers cut" % (
            killer.done, adopted, killer.lagging, len(cut)))
        # A sanitized build gets a third of the load, which slow readers may keep up with.
        if not SANITIZED:
            self.assertGreater(killer.lagging, killer.done, "too few frames were cut")
        # One killed before it served is no restart.
        self.assertGreaterEqual(self.d.counter("restarts"), killer.done * 0.8)
        self.fds_are_back(self.d, self.before)
        self.d.stop()

    def test_adoption_wsctl_restart_loses_no_byte(self):
        """As above; and as nothing is cut here, no talker is closed either."""
        restart = None

        def hit(worker, rng):
            nonlocal restart
            restart = restart or Restarter(self.d)
            return restart(worker, rng)

        self.hits(hit, max(10, KILLS // 4), 0.3, CLIENTS // 2, talkers=20)
        restart.collect()
        self.assertEqual(self.over(), [], "a planned restart closed a connection")
        self.fds_are_back(self.d, self.before)
        self.d.stop()

    def test_adoption_kill_keepers_and_spares_loses_no_byte(self):
        """The keeper, the spare, the keeper and the serving process in either order."""

        def hit(worker, rng):
            spare = self.d.spare_of(worker)
            if not spare:
                return False  # it is just being made
            which = rng.randrange(5)
            if which == 0:
                return shoot(worker["keeper_pid"])
            if which == 1:
                return shoot(spare)
            if which == 2:
                shoot(worker["pid"])
                return shoot(worker["keeper_pid"])
            if which == 3:
                shoot(worker["keeper_pid"])
                return shoot(worker["pid"])
            shoot(spare)
            return shoot(worker["pid"])

        killer = self.hits(hit, KILLS // 3, 0.4, CLIENTS // 3, talkers=5)
        self.over(killer)
        # Each keeper is another process now, with a spare, and no more fds than before.
        self.d.wait_serving()
        wait_until("each keeper has a spare",
                   lambda: all(self.d.spare_of(w) for w in self.d.workers()))
        self.fds_are_back(self.d, {
            w["keeper_pid"]: list(self.before.values())[1] for w in self.d.workers()})
        self.d.stop()


class WholeWorker(StormCase):
    def test_adoption_whole_worker_killed_comes_back(self):
        """Keeper, spare and serving process at once: nobody is left to hold the
        sockets, so its clients are closed; the others' are not, and it comes back."""
        fleet = self.storm(40, workers=2)
        victim = self.d.workers()[0]
        ports = peers_of(victim["keeper_pid"])
        gone = [c for c in fleet.clients.values() if c.port in ports]
        self.assertTrue(gone)
        ended = []
        for c in gone:
            c.on_end = lambda how, c=c: (ended.append(c), c.close())
            c.mismatch = lambda data, c=c: None
        pids = [victim["keeper_pid"], self.d.spare_of(victim), victim["pid"]]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # so that none sees another's death
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        fleet.storm.start()
        fleet.run("its clients' end", lambda: len(ended) == len(gone))
        self.d.wait_serving(but=pids)
        for i in range(10):
            fleet.raw("new-%d" % i, "c1")
        fleet.go_live()
        self.over()
        self.d.stop()


class Slots(StormCase):
    """Single moments of a connection, with the serving process killed in them."""

    def setUp(self):
        self.socks = []

    def connection(self, d):
        s = socket.create_connection(("127.0.0.1", d.port))
        s.settimeout(DEADLINE)
        self.addCleanup(s.close)
        self.socks.append(s)
        return s

    def end(self, d):
        """Clients that are there and answer no Close frame would hold up the stop."""
        for s in self.socks:
            s.close()
        d.stop()

    def read_to(self, s, mark):
        got = b""
        while mark not in got:
            more = s.recv(65536)
            if not more:
                raise AssertionError("closed after %r" % got[-200:])
            got += more
        return got

    def kill_all(self, d):
        pids = [w["pid"] for w in d.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        d.wait_serving(but=pids)

    def test_adoption_half_a_handshake_survives(self):
        d = self.daemon(workers=1)
        s = self.connection(d)
        request = upgrade("/ws", True, d.port)
        s.sendall(request[:50])
        wait_until("accepted", lambda: d.counter("connections") == 1
                   or s.getsockname()[1] in peers_of(d.workers()[0]["keeper_pid"]))
        self.kill_all(d)
        s.sendall(request[50:])
        self.read_to(s, b'{"hello"')
        # Fewer bytes than the predecessor waited for.
        s.sendall(masked(1, b'{"id":1,"ping":{}}'))
        self.read_to(s, b'{"id":1,"ok":{}}')
        self.end(d)

    def test_adoption_an_idle_connection_goes_on(self):
        """Killed right behind an answer: who has it is not inside a message."""
        d = self.daemon(workers=1)
        s = self.connection(d)
        s.sendall(upgrade("/ws", True, d.port))
        self.read_to(s, b'{"hello"')
        s.sendall(masked(1, b'{"id":1,"subscribe":"a"}') + masked(1, b'{"id":2,"subscribe":"b"}'))
        self.read_to(s, b'"id":2')
        for n in range(3):
            self.kill_all(d)
            d.publish("a", "%d" % n)
            d.publish("b", "%d" % (n + 100))
            got = self.read_to(s, b'"data":%d}' % (n + 100))
            self.assertIn(b'"data":%d}' % n, got)
            s.sendall(masked(1, b'{"id":"p%d","ping":{}}' % n))
            self.read_to(s, b'"p%d"' % n)
        s.sendall(masked(1, b'{"id":9,"unsubscribe":"a"}'))
        self.read_to(s, b'"id":9')
        self.assertEqual(d.status()["subscriptions"], 1)
        self.assertEqual(d.counter("adopted"), 3)
        self.end(d)

    def half_message(self, d):
        """A raw client whose message has come by half; its socket."""
        s = self.connection(d)
        s.sendall(upgrade("/ws/chat", False, d.port))
        self.read_to(s, b"\r\n\r\n")
        s.sendall(masked(1, b"first"))
        self.read_to(s, b"first")
        whole = masked(1, b"x" * 3000)
        before = d.counter("received_bytes") if "received_bytes" in d.workers()[0] else None
        s.sendall(whole[:1500])
        if before is not None:
            wait_until("it is read", lambda: d.counter("received_bytes") > before)
        else:
            # Read when the kernel has nothing of it any more.
            wait_until("it is read", lambda: self.unread(d, s) == 0)
        return s, whole[1500:]

    def unread(self, d, s):
        """Bytes in the kernel at the server's end of this connection."""
        port = s.getsockname()[1]
        with open("/proc/net/tcp") as f:
            for line in f.readlines()[1:]:
                col = line.split()
                if (int(col[2].split(":")[1], 16) == port
                        and int(col[1].split(":")[1], 16) == d.port):
                    return int(col[4].split(":")[1], 16)
        return 0

    def test_adoption_half_a_message_is_closed_with_1012(self):
        d = self.daemon({"channel *": {"publish": "anyone"}}, workers=1)
        s, _ = self.half_message(d)
        other = self.connection(d)
        other.sendall(upgrade("/ws", True, d.port) + masked(1, b'{"id":0,"subscribe":"b"}'))
        self.read_to(other, b'"id":0')
        self.kill_all(d)
        got = b""
        while True:
            try:
                more = s.recv(4096)
            except ConnectionResetError:
                break
            if not more:
                break
            got += more
        self.assertEqual(got[:1] + got[2:4], b"\x88\x03\xf4", got)
        other.sendall(masked(1, b'{"id":1,"ping":{}}'))
        self.read_to(other, b'"id":1')
        self.end(d)

    def test_adoption_half_a_message_is_finished_on_restart(self):
        """A planned restart waits for the rest, for at most a second."""
        d = self.daemon({"channel *": {"publish": "anyone"}}, workers=1)
        s, rest = self.half_message(d)
        pid = d.workers()[0]["pid"]
        proc = subprocess.Popen([os.path.join(os.path.dirname(d.argv[-3]), "wsctl"), "-s",
                                 d.control, "restart"], stdout=subprocess.DEVNULL)
        s.sendall(rest)
        self.read_to(s, b"x" * 3000)
        self.assertEqual(proc.wait(DEADLINE), 0)
        self.assertNotEqual(d.workers()[0]["pid"], pid)
        s.sendall(masked(1, b"second"))
        self.read_to(s, b"second")
        self.end(d)

    def test_adoption_syn_queue_waits_for_the_successor(self):
        """Connections made while no process serves are served by the next one."""
        d = self.daemon(workers=1)
        pid = d.workers()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        socks = [self.connection(d) for _ in range(20)]
        for s in socks:
            s.sendall(upgrade("/ws", True, d.port))
        os.kill(pid, signal.SIGKILL)
        for s in socks:
            self.read_to(s, b'{"hello"')
        self.end(d)

    def test_adoption_early_deaths_back_off(self):
        """Killed before it is healthy, again and again: it waits longer each time, says
        so, and serves in the end."""
        d = self.daemon(workers=1)
        s = self.connection(d)
        s.sendall(upgrade("/ws", True, d.port))
        self.read_to(s, b'{"hello"')
        keeper = d.workers()[0]["keeper_pid"]
        spare = d.spare_of(d.workers()[0])
        mark = d.mark()
        os.kill(d.workers()[0]["pid"], signal.SIGKILL)
        end = time.monotonic() + DEADLINE
        killed = 0
        # A new process is killed the moment it is there.
        while killed < 3 and time.monotonic() < end:
            for pid in descendants(keeper):
                if pid != spare and alive(pid):
                    try:
                        os.kill(pid, signal.SIGKILL)
                        killed += 1
                    except ProcessLookupError:
                        pass
        d.wait_serving()
        s.sendall(masked(1, b'{"id":1,"ping":{}}'))
        self.read_to(s, b'"id":1')
        d.wait_line(r"worker 0", mark)
        self.end(d)


class Stopped(StormCase):
    def test_adoption_sigstop_does_not_stall_the_others(self):
        """One of two serving processes is stopped under a feed at full speed. Whoever
        is on the other goes on; the stopped one is replaced; its clients get all.

        Flow control is by the readers: what is published is at most a tenth of the
        ring ahead of the slowest client of the other worker.
        """
        self.seed = 1
        self.rng = random.Random(self.seed)
        server = self.redis()
        size = 16 << 20
        d = self.daemon({"ring": {"size": "16M"}}, redis=server, workers=2)
        self.d = d
        pipe = server.connect()
        self.addCleanup(pipe.close)
        storm = Storm(lambda batch: pipe.publish(
            [("wscast:" + c, p) for c, p in batch], wait=False),
            ["full"], 0, lambda rng: rng.randrange(8000), self.seed)
        fleet = self.fleet = Fleet(d, storm)
        self.addCleanup(fleet.close)
        self.talkers = []
        fleet.v1("v1", "full")
        fleet.run("the first client's subscription",
                  lambda: all(c.live for c in fleet.clients.values()))
        for i in range(16):
            fleet.raw("raw-%d" % i, "full")
        fleet.go_live()
        tape = storm.raw["full"]
        raws = [c for c in fleet.clients.values() if c.tape is tape]
        workers = d.workers()
        on = {w["index"]: [c for c in raws if c.port in peers_of(w["keeper_pid"])] for w in workers}
        victim = max(workers, key=lambda w: len(on[w["index"]]) if len(on[w["index"]]) < len(raws) else 0)
        theirs = on[victim["index"]]
        others = [c for c in raws if c not in theirs]
        self.assertTrue(theirs and others)
        state = {"stopped": False, "replaced": None, "ask": 0.0, "stall": 0.0,
                 "still": 0.0, "looked": time.monotonic(), "at": 0}

        def feed():
            slowest = min(c.pos for c in others)
            if state["replaced"]:
                # Theirs count again, with what a successor has to catch up with.
                slowest = min(slowest, min(c.pos for c in theirs) + size // 2)
            while len(tape.data) - slowest < size // 10:
                storm.send([storm.message("full", storm.sizes(storm.rng)) for _ in range(20)])

        def watch():
            now = time.monotonic()
            slowest = min(c.pos for c in others)
            # Looked at again and again: if we stood still ourselves, it says nothing.
            state["still"] += min(now - state["looked"], 0.1)
            state["looked"] = now
            if slowest > state["at"]:
                state["at"], state["still"] = slowest, 0.0
            if state["stopped"]:
                state["stall"] = max(state["stall"], state["still"])
            if not state["stopped"] and len(tape.data) > size:
                os.kill(victim["pid"], signal.SIGSTOP)
                state["stopped"] = True
            if state["stopped"] and not state["replaced"] and now > state["ask"]:
                state["ask"] = now + 0.02
                w = [w for w in d.workers() if w["index"] == victim["index"]][0]
                if w["pid"] != victim["pid"] and w["state"] == "serving":
                    state["replaced"] = len(tape.data)

        fleet.jobs += [feed, watch]
        fleet.run(lambda: "the replacement %s" % state, lambda: state["replaced"])
        self.assertFalse(alive(victim["pid"]), "the stopped one is dead")
        fleet.run("another ring's worth for all",
                  lambda: min(c.pos for c in raws) > state["replaced"] + size)
        print("longest stall of the others %.3f s, %d MB" % (
            state["stall"], len(tape.data) >> 20))
        self.assertLess(state["stall"], 15 if SANITIZED else 3)
        self.over()
        d.stop()


if __name__ == "__main__":
    unittest.main()
