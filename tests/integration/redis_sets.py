"""Sets of Redis servers on free ports: a master with its replica and sentinels, and a
cluster. Their timeouts are short, and yet longer than a shared machine stands still at
times: nobody is replaced for that."""

import os
import shutil
import subprocess
import tempfile

from harness import DEADLINE, REDIS_SERVER, free_port, wait_until

TILT_S = 30  # a sentinel that stood still for 2 s does nothing for so long


class Sentinel:
    """One sentinel, of a master called `gate`."""

    def __init__(self, master, password=None):
        self.port = free_port()
        self.password = password
        self.dir = tempfile.mkdtemp(prefix="wscast-sentinel-")
        conf = os.path.join(self.dir, "sentinel.conf")
        lines = ["port %d" % self.port, "bind 127.0.0.1", "dir " + self.dir,
                 "sentinel monitor gate 127.0.0.1 %d 2" % master.port,
                 "sentinel down-after-milliseconds gate 2000",
                 "sentinel failover-timeout gate 2000"]
        if password:
            lines += ["requirepass " + password, "sentinel sentinel-pass " + password]
        with open(conf, "w") as f:
            f.write("\n".join(lines) + "\n")
        self.proc = subprocess.Popen(REDIS_SERVER + [conf, "--sentinel"],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def cli(self, *args):
        secret = ["--no-auth-warning", "-a", self.password] if self.password else []
        return subprocess.run(
            ["redis-cli", "-p", str(self.port)] + secret + list(args),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=DEADLINE,
            text=True).stdout.strip()

    def master_port(self):
        answer = self.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "gate").split()
        return int(answer[1]) if len(answer) == 2 and answer[1].isdigit() else None

    def sees_all(self):
        """Both servers and both of the others."""
        words = self.cli("SENTINEL", "MASTER", "gate").split("\n")
        said = dict(zip(words[::2], words[1::2]))
        replica = self.cli("SENTINEL", "REPLICAS", "gate").split("\n")
        replica = dict(zip(replica[::2], replica[1::2]))
        return (said.get("flags") == "master" and said.get("num-slaves") == "1"
                and said.get("num-other-sentinels") == "2"
                and replica.get("flags") == "slave"
                and replica.get("master-link-status") == "ok")

    def stop(self):
        if self.proc:
            self.proc.kill()
            self.proc.wait()
            self.proc = None

    def done(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


class SentinelSet:
    """Two servers that keep what they acknowledge, and three sentinels.

    whole  wait until the sentinels know each other and the replica
    """

    def __init__(self, case, password=None, whole=True):
        self.servers = [case.redis(durable=True, args=["--repl-diskless-sync-delay", "0"])
                        for _ in range(2)]
        self.servers[1].cli("REPLICAOF", "127.0.0.1", str(self.servers[0].port))
        self.sentinels = [Sentinel(self.servers[0], password) for _ in range(3)]
        for s in self.sentinels:
            case.addCleanup(s.done)
        wait_until("the sentinels", lambda: all(s.master_port() for s in self.sentinels))
        if whole:
            self.wait_whole()
        self.url = "redis-sentinel://%s/gate" % ",".join(
            "127.0.0.1:%d" % s.port for s in self.sentinels)

    def master(self):
        """The server that most of the sentinels that live name."""
        ports = [s.master_port() for s in self.sentinels if s.proc]
        return next(r for r in self.servers if ports.count(r.port) >= 2)

    def connect(self):
        """To the master, as a client that asked the sentinels, and then himself."""
        try:
            pipe = self.master().connect()
        except StopIteration:
            raise ConnectionError("no master") from None
        try:
            pipe.command("SET", "who", "a replica refuses this")
        except AssertionError:
            pipe.close()
            raise
        return pipe

    def other(self, server):
        return self.servers[1 - self.servers.index(server)]

    def wait_master(self, server):
        wait_until("all sentinels name the new master", lambda: all(
            s.master_port() == server.port for s in self.sentinels if s.proc),
            timeout=DEADLINE + TILT_S)

    def wait_whole(self):
        """Both servers are there, one of them as the other's replica."""
        wait_until("the sentinels know each other",
                   lambda: all(s.sees_all() for s in self.sentinels))


class ShardPipe:
    """SPUBLISHes at the owners of the slots, as a client of the cluster that is told of a
    slot that moved, and asks again."""

    def __init__(self, cluster):
        self.cluster, self.owners, self.pipes = cluster, {}, {}

    def publish(self, messages):
        """One that fails keeps none of the others."""
        failed = None
        for name, data in messages:
            try:
                self.pipe(name).command("SPUBLISH", name, data)
            except (OSError, AssertionError, subprocess.SubprocessError) as e:
                self.owners.pop(name, None)
                failed = e
        if failed:
            raise failed

    def pipe(self, name):
        if name not in self.owners:
            owner = self.cluster.owner(self.cluster.slot(name))
            if owner is None or not owner.proc:
                raise ConnectionError("nobody has the slot of " + name)
            self.owners[name] = owner
        owner = self.owners[name]
        if owner not in self.pipes:
            self.pipes[owner] = owner.connect()
        return self.pipes[owner]

    def close(self):
        for pipe in self.pipes.values():
            pipe.close()


class Cluster:
    """Three masters, each with a replica."""

    def __init__(self, case):
        self.nodes = [case.redis(durable=True, args=[
            "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
            "--cluster-node-timeout", "3000",
            "--cluster-config-file", "nodes.conf", "--repl-diskless-sync-delay", "0"])
            for _ in range(6)]
        where = ["127.0.0.1:%d" % n.port for n in self.nodes]
        subprocess.run(["redis-cli", "--cluster", "create"] + where + [
            "--cluster-replicas", "1", "--cluster-yes"], check=True, timeout=2 * DEADLINE,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait_ok()
        self.url = "redis-cluster://" + ",".join(where[:3])

    def alive(self):
        return [n for n in self.nodes if n.proc]

    def connect(self):
        return ShardPipe(self)

    def wait_ok(self):
        """Every node that lives finds the cluster served, by masters it agrees on."""
        def question():
            said = set()
            for n in self.alive():
                if "cluster_state:ok" not in n.cli("CLUSTER", "INFO"):
                    return False
                owners = []
                for line in n.cli("CLUSTER", "NODES").split("\n"):
                    col = line.split()
                    if "master" in col[2] and "fail" not in col[2]:
                        owners.append((col[1].split("@")[0], tuple(
                            w for w in col[8:] if not w.startswith("["))))
                said.add(tuple(sorted(owners)))
            return len(said) == 1
        wait_until("the cluster is well", question, every=0.05)

    def owner(self, slot):
        """The node that serves a slot, as most of them see it."""
        for line in self.alive()[0].cli("CLUSTER", "NODES").split("\n"):
            col = line.split()
            if "master" not in col[2] or "fail" in col[2]:
                continue
            for word in col[8:]:
                if word.startswith("["):
                    continue
                low, _, high = word.partition("-")
                if int(low) <= slot <= int(high or low):
                    port = int(col[1].split("@")[0].rsplit(":", 1)[1])
                    return next(n for n in self.nodes if n.port == port)
        return None

    def other_master(self, master):
        return next(n for n in self.alive() if n is not master
                    and n.cli("ROLE").startswith("master"))

    def replica_of(self, master):
        me = master.cli("CLUSTER", "MYID")
        for line in self.alive()[0].cli("CLUSTER", "NODES").split("\n"):
            col = line.split()
            if "slave" in col[2] and col[3] == me:
                port = int(col[1].split("@")[0].rsplit(":", 1)[1])
                return next(n for n in self.nodes if n.port == port)
        return None

    def slot(self, name):
        return int(self.alive()[0].cli("CLUSTER", "KEYSLOT", name))

    def move(self, slot, to):
        """Move a slot with what is in it, as `redis-cli --cluster reshard` does."""
        def must(node, *args):
            answer = node.cli(*args)
            if answer not in ("OK", "NOKEY"):
                raise AssertionError("%s: %s" % (args, answer))

        at = self.owner(slot)
        source, target = at.cli("CLUSTER", "MYID"), to.cli("CLUSTER", "MYID")
        must(to, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", source)
        must(at, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", target)
        while keys := at.cli("CLUSTER", "GETKEYSINSLOT", str(slot), "100").split():
            must(at, "MIGRATE", "127.0.0.1", str(to.port), "", "0", "5000", "KEYS", *keys)
        for node in (to, at):
            must(node, "CLUSTER", "SETSLOT", str(slot), "NODE", target)
        return at
