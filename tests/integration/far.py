"""A Redis that is far away: in a network namespace, behind a cable that can be pulled.
Needs root."""

import ctypes
import os
import subprocess

from harness import Redis, RedisPipe


class Namespace:
    """A network namespace with a Redis in it, behind a cable that can be pulled."""

    def __init__(self):
        self.name = "wst%d" % os.getpid()
        n = os.getpid() % 250
        self.here, self.there = "10.231.%d.1" % n, "10.231.%d.2" % n
        self.ip("netns", "add", self.name)
        self.ip("link", "add", "wst-a%d" % n, "type", "veth", "peer", "name", "wst-b%d" % n,
                "netns", self.name)
        self.cable, self.far = "wst-a%d" % n, "wst-b%d" % n
        self.ip("addr", "add", self.here + "/30", "dev", self.cable)
        self.ip("link", "set", self.cable, "up")
        self.ip("-n", self.name, "addr", "add", self.there + "/30", "dev", self.far)
        self.ip("-n", self.name, "link", "set", self.far, "up")
        self.ip("-n", self.name, "link", "set", "lo", "up")

    @staticmethod
    def ip(*args):
        subprocess.run(["ip"] + list(args), check=True, timeout=10)

    def redis(self, **more):
        return FarRedis(self, **more)

    def cut(self):
        self.ip("-n", self.name, "link", "set", self.far, "down")

    def heal(self):
        self.ip("-n", self.name, "link", "set", self.far, "up")

    def done(self):
        subprocess.run(["ip", "netns", "del", self.name], timeout=10, check=False)


class FarRedis(Redis):
    """redis-server inside a namespace. Who talks to it from here does so in there: only
    the gateway is cut off."""

    def __init__(self, net, **more):
        self.net = net
        self.wrap = ["ip", "netns", "exec", net.name]
        super().__init__(bind="0.0.0.0", **more)

    @property
    def url(self):
        return "redis://%s:%d/0" % (self.net.there, self.port)

    def connect(self):
        with open("/proc/thread-self/ns/net") as here, \
                open("/run/netns/" + self.net.name) as there:
            enter(there)
            try:
                return RedisPipe(self.port)
            finally:
                enter(here)


def enter(net):
    """This thread goes on in another network namespace."""
    if ctypes.CDLL(None, use_errno=True).setns(net.fileno(), 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")
