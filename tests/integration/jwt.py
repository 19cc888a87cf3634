"""Tokens of every algorithm, by Python's hmac and the openssl program."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import time

KINDS = {"EdDSA": ["-algorithm", "ed25519"],
         "ES256": ["-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
         "RS256": ["-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"]}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=True).stdout


def raw_signature(der):
    """r and s of an ECDSA signature in DER, side by side."""
    at, parts = 2, []
    for _ in range(2):
        n = der[at + 1]
        parts.append(der[at + 2:at + 2 + n].lstrip(b"\0").rjust(32, b"\0"))
        at += 2 + n
    return b"".join(parts)


class Key:
    """A key in a folder: what the server reads is `path`."""

    def __init__(self, folder, alg="HS256", name="key", kid=None):
        self.alg, self.kid = alg, kid
        self.path = os.path.join(folder, name)
        self.private = self.path + ".private"
        if alg == "HS256":
            self.secret = os.urandom(32).hex().encode()
            self.public = self.secret + b"\n"
        else:
            openssl("genpkey", *KINDS[alg], "-out", self.private)
            self.public = openssl("pkey", "-in", self.private, "-pubout")
        self.write(self)

    def write(self, *keys):
        """These keys are in the file from now on."""
        text = b"".join(k.public for k in keys)
        if self.alg == "HS256" and len(keys) > 1:
            text = json.dumps({"keys": [k.jwk() for k in keys]}).encode()
        with open(self.path + ".new", "wb") as f:
            f.write(text)
        os.rename(self.path + ".new", self.path)

    def jwk(self):
        """A secret as a member of a JWK Set."""
        jwk = {"kty": "oct", "alg": "HS256", "k": b64(self.secret)}
        return jwk if self.kid is None else dict(jwk, kid=self.kid)

    def sign(self, text):
        if self.alg == "HS256":
            return hmac.new(self.secret, text, hashlib.sha256).digest()
        if self.alg == "EdDSA":
            with open(self.path + ".data", "wb") as f:
                f.write(text)
            return openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.private, "-in",
                           self.path + ".data")
        signature = openssl("dgst", "-sha256", "-sign", self.private, data=text)
        return raw_signature(signature) if self.alg == "ES256" else signature

    def token(self, ttl=3600, **claims):
        """A token of these claims; ttl None: it never expires."""
        header = {"alg": self.alg, "typ": "JWT"}
        if self.kid is not None:
            header["kid"] = self.kid
        if ttl is not None:
            claims.setdefault("exp", int(time.time()) + ttl)
        text = b64(json.dumps(header).encode()) + "." + b64(json.dumps(claims).encode())
        return text + "." + b64(self.sign(text.encode()))
