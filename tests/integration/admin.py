"""A daemon with an admin listener, and what is asked of it, for the tests of both."""

import http.client
import json
import os

from harness import DEADLINE, Case, free_port

KEY = "a-key-of-thirty-two-characters-0"


class AdminCase(Case):
    def admin(self, settings=None, keys=(KEY,), **kwargs):
        """A daemon with an admin listener and a file of keys."""
        self.port = free_port()
        merged = {"server": {"admin_listen": "127.0.0.1:%d" % self.port}}
        for section, more in (settings or {}).items():
            merged.setdefault(section, {}).update(more)
        d = self.daemon(merged, **kwargs)
        if keys:
            self.keys = os.path.join(d.dir, "keys")
            self.put_keys(*keys)
            d.reload(server={"api_key_file": self.keys})
        return d

    def put_keys(self, *keys):
        with open(self.keys, "w") as f:
            f.write("# who may publish\n\n" + "".join("  %s \n" % k for k in keys))

    def ask(self, method, path, body=None, key=None, headers=()):
        """(status, headers, body)"""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        head = dict(headers)
        if key:
            head["Authorization"] = "Bearer " + key
        try:
            c.request(method, path, body, head)
            r = c.getresponse()
            return r.status, r.headers, r.read().decode()
        finally:
            c.close()

    def publish(self, body, key=KEY):
        """(status, the answer)"""
        if not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        status, _, text = self.ask("POST", "/publish", body, key)
        self.assertEqual(text.count("\n"), 1, text)
        return status, json.loads(text)

    def refused(self, want, body, key=KEY):
        """The code with which it is refused."""
        status, got = self.publish(body, key)
        self.assertEqual(status, want, got)
        self.assertTrue(got["error"]["message"], got)
        return got["error"]["code"]

    def metrics(self):
        """{name with labels: value}"""
        status, head, text = self.ask("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertIn("version=0.0.4", head["Content-Type"])
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines() if not line.startswith("#")}
