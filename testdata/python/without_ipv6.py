"""Runs a program as on a kernel without IPv6: socket(AF_INET6, ...) fails with EAFNOSUPPORT."""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_UNLESS_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]

# Loads the number of the system call, then its first argument.
FILTER = [
    (LOAD, 0, 0, 0),
    (JUMP_UNLESS_EQUAL, 0, 3, SOCKET),
    (LOAD, 0, 0, 16),
    (JUMP_UNLESS_EQUAL, 0, 1, socket.AF_INET6),
    (RETURN, 0, 0, ERRNO | errno.EAFNOSUPPORT),
    (RETURN, 0, 0, ALLOW),
]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in FILTER))
program = Program(len(FILTER), ctypes.addressof(code))
prctl = ctypes.CDLL(None).prctl
assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)) == 0
os.execvp(sys.argv[1], sys.argv[1:])
