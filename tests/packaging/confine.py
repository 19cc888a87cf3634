"""Run a program behind the system-call filter of a unit, as systemd would make it:

    confine.py UNIT-FILE PROGRAM [ARGUMENT...]

Of the unit count SystemCallFilter=, RestrictAddressFamilies=, MemoryDenyWriteExecute= and
NoNewPrivileges=. What a group has is asked of systemd-analyze.

Source  systemd.exec(5), seccomp_rule_add(3)
"""

import ctypes
import os
import socket
import subprocess
import sys

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EQ, MASKED_EQ = 4, 7
WRITE, EXEC = 2, 4
EPERM = 1


class Cmp(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int),
                ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def values(unit, key):
    with open(unit) as f:
        return [line.split("=", 1)[1].split() for line in f if line.startswith(key + "=")]


def expand(name):
    """The calls of a group, of the groups in it, too."""
    if not name.startswith("@"):
        return {name}
    lines = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", name],
                           check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")
    calls = set()
    for line in lines[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            calls |= expand(word)
    return calls


def allowed_calls(unit):
    """An allow-list; what is behind ~ is taken out, and what follows is put in again."""
    calls = expand("@default")  # always
    for words in values(unit, "SystemCallFilter"):
        out = words[0].startswith("~")
        for word in words:
            more = expand(word.lstrip("~"))
            calls = calls - more if out else calls | more
    return calls | expand("@default")


def rules(unit, call):
    """Lists of conditions on a call's arguments, any of which allows it."""
    if call == "socket" and values(unit, "RestrictAddressFamilies"):
        return [[Cmp(0, EQ, getattr(socket, name), 0)]
                for name in values(unit, "RestrictAddressFamilies")[0]]
    if values(unit, "MemoryDenyWriteExecute") == [["yes"]]:
        if call == "mmap":
            return [[Cmp(2, MASKED_EQ, WRITE | EXEC, bits)] for bits in (0, WRITE, EXEC)]
        if call in ("mprotect", "pkey_mprotect"):
            return [[Cmp(2, MASKED_EQ, EXEC, 0)]]
    return [[]]


def confine(unit):
    lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    lib.seccomp_init.restype = ctypes.c_void_p
    ctx = ctypes.c_void_p(lib.seccomp_init(ERRNO | EPERM))
    for call in allowed_calls(unit):
        number = lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            continue  # another architecture's
        for conditions in rules(unit, call):
            array = (Cmp * max(1, len(conditions)))(*conditions)
            r = lib.seccomp_rule_add_array(ctx, ALLOW, number, len(conditions), array)
            if r != 0:
                raise OSError(-r, call)
    r = lib.seccomp_load(ctx)  # sets no_new_privs
    if r != 0:
        raise OSError(-r, "seccomp_load")


if __name__ == "__main__":
    confine(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
