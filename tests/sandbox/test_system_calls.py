"""System calls by which a program could reach another process, or learn of one.

Each is made from a running episode, directly, by its number. None may succeed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.sandbox import seccomp
from autotts_gym.sandbox.lockdown import missing
from autotts_gym.sandbox.player import Sandbox

sys.path.insert(0, str(Path(__file__).parent))
from programs import ORDERS, QUESTIONS, STORE, WIDTH, program

needs_all = [
    pytest.mark.skipif(bool(missing()), reason=f"this machine lacks {', '.join(missing())}"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64"),
]

# name: (number, arguments). TEXT is an address in the text of the C library, which all processes
# map from one file; PAGE is a page of memory of its own, and WORDS are zeroed bytes in it.
CALLS = {
    # futexes
    "wake by a futex in a shared file": (202, "TEXT, 1, 1"),
    "wait for a futex in a shared file": (202, "TEXT, 0, 1, WORDS"),
    "wait for a private futex": (202, "WORDS, 128, 0, WORDS"),
    "requeue a shared futex": (202, "TEXT, 3, 1, 1, TEXT, 0"),
    "requeue a private futex": (202, "WORDS, 131, 1, 1, WORDS, 0"),
    "operate on two futexes": (202, "TEXT, 5, 1, 1, TEXT, 0"),
    "lock a futex by its owner": (202, "WORDS, 134"),
    "wait for bits of a futex": (202, "WORDS, 137, 0, WORDS, 0, -1"),
    "wake bits of a shared futex": (202, "TEXT, 10, 1, 0, 0, -1"),
    "a shared futex with a flag": (202, "TEXT, 257, 1"),
    "wait for several futexes": (449, "WORDS, 1, 0, 0, 1"),
    "wake by the second futex interface": (454, "TEXT, -1, 1, 2"),
    "list of another's robust futexes": (274, "1, PAGE, PAGE"),
    "list of its robust futexes": (273, "PAGE, 24"),
    # clocks and counters
    "processor time of its process": (228, "2, PAGE"),
    "processor time of process 1": (228, "(~1 << 3) | 2, PAGE"),
    "processor time of process 3": (228, "(~3 << 3) | 2, PAGE"),
    "processor time of a thread": (228, "(~3 << 3) | 6, PAGE"),
    "monotonic clock": (228, "1, PAGE"),
    "coarse clock": (228, "6, PAGE"),
    "time since boot": (228, "7, PAGE"),
    "resolution of another's clock": (229, "(~1 << 3) | 2, PAGE"),
    "time of day": (96, "PAGE, 0"),
    "seconds": (201, "0"),
    "process times": (100, "PAGE"),
    "resource usage": (98, "0, PAGE"),
    "resource usage of children": (98, "-1, PAGE"),
    "load of the system": (99, "PAGE"),
    "sleep": (35, "WORDS, 0"),
    "sleep until": (230, "1, 0, WORDS, 0"),
    "a timer": (222, "1, 0, PAGE"),
    "a timer as a file": (283, "1, 0"),
    "an interval timer": (38, "0, WORDS, 0"),
    "an alarm": (37, "1"),
    "clock adjustment": (159, "PAGE"),
    # scheduling
    "its own affinity": (204, "0, 128, PAGE"),
    "affinity of process 1": (204, "1, 128, PAGE"),
    "affinity of process 4": (204, "4, 128, PAGE"),
    "set its affinity": (203, "0, 8, WORDS"),
    "its priority": (140, "0, 0"),
    "priorities of the user": (140, "2, 0"),
    "lower its priority": (141, "0, 0, 19"),
    "scheduler of process 1": (145, "1"),
    "scheduling parameters": (143, "1, PAGE"),
    "set a scheduler": (144, "0, 3, WORDS"),
    "scheduling attributes": (315, "1, PAGE, 56, 0"),
    "time slice of process 1": (148, "1, PAGE"),
    "yield": (24, ""),
    "priority of input": (252, "1, 1"),
    "its processor": (309, "PAGE, 0, 0"),
    "a barrier for all processes": (324, "1, 0, 0"),
    # identities and signals
    "its process id": (39, ""),
    "its thread id": (186, ""),
    "its parent": (110, ""),
    "its session": (124, "0"),
    "its process group": (121, "0"),
    "a new session": (112, ""),
    "a handle of process 1": (434, "1, 0"),
    "whether process 1 exists": (62, "1, 0"),
    "whether process 4 exists": (62, "4, 0"),
    "signal its group": (62, "0, 0"),
    "signal a thread": (200, "1, 0"),
    "signal a thread of a group": (234, "1, 1, 0"),
    "queue a signal": (129, "1, 10, PAGE"),
    "signal by a handle": (424, "3, 0, 0, 0"),
    "wait for a child": (61, "-1, PAGE, 1, 0"),
    "wait for any process": (247, "0, 0, PAGE, 5, 0"),
    "wait for a signal": (128, "PAGE, 0, WORDS, 8"),
    "read memory of process 1": (310, "1, WORDS, 1, WORDS, 1, 0"),
    "write memory of process 1": (311, "1, WORDS, 1, WORDS, 1, 0"),
    "trace process 1": (101, "16, 1, 0, 0"),
    "compare with process 1": (312, "1, 2, 0, 0, 0"),
    "where its thread id is cleared": (218, "PAGE"),
    "its name": (157, "16, PAGE"),
    # memory
    "pages that are in memory": (27, "TEXT & -4096, 4096, PAGE"),
    "load pages of a file": (28, "TEXT & -4096, 4096, 3"),
    "evict pages of a file": (28, "TEXT & -4096, 4096, 21"),
    "make pages of a file cold": (28, "TEXT & -4096, 4096, 20"),
    "populate pages of a file": (28, "TEXT & -4096, 4096, 22"),
    "merge equal pages": (28, "PAGE, 4096, 12"),
    "advise another process": (440, "3, WORDS, 1, 21, 0"),
    "lock pages": (149, "PAGE, 4096"),
    "lock all pages": (151, "1"),
    "map shared memory": (9, "0, 4096, 3, 0x21, -1, 0"),
    "map locked memory": (9, "0, 4096, 3, 0x2022, -1, 0"),
    "map huge pages": (9, "0, 1 << 21, 3, 0x40022, -1, 0"),
    "map a file": (9, "0, 4096, 1, 2, 0, 0"),
    "map executable memory": (9, "0, 4096, 7, 0x22, -1, 0"),
    "make memory executable": (10, "PAGE, 4096, 5"),
    "a file in memory": (319, "PAGE, 0"),
    "handle page faults": (323, "1"),
    "shared memory by a key": (29, "1, 4096, 0o1666"),
    "semaphores by a key": (64, "1, 1, 0o1666"),
    "a message queue by a key": (68, "1, 0o1666"),
    "a message queue by a name": (240, "PAGE, 0o102, 0o666, 0"),
    "placement of pages": (239, "PAGE, 0, 0, 0, 0"),
    # limits and files
    "limits of process 1": (302, "1, 7, 0, PAGE"),
    "its limits": (97, "7, PAGE"),
    "raise a limit": (160, "7, PAGE"),
    "open a file": (257, "-100, PAGE, 0"),
    "watch files": (294, "0"),
    "an event counter": (290, "0, 0"),
    "wait for events": (291, "0"),
    "a pipe": (293, "PAGE, 0"),
    "duplicate a pipe": (32, "4"),
    "close a pipe": (3, "0"),
    "flags of a shared file": (72, "1, 4, 0x800"),
    "position of a shared file": (8, "0, 1, 0"),
    "state of a file": (5, "0, PAGE"),
    "capacity of a pipe": (16, "3, 0x541B, PAGE"),
    "lock a file": (73, "0, 2"),
    "poll": (7, "WORDS, 0, 1"),
    "select": (23, "0, 0, 0, 0, WORDS"),
    "read another descriptor": (0, "5, PAGE, 1"),
    "write another descriptor": (1, "3, PAGE, 1"),
    "a socket": (41, "1, 1, 0"),
    "a socket pair": (53, "1, 1, 0, PAGE"),
    "receive descriptors": (47, "3, WORDS, 0"),
    # the kernel
    "an asynchronous ring": (425, "1, PAGE"),
    "a BPF program": (321, "0, PAGE, 8"),
    "performance counters": (298, "PAGE, 0, -1, -1, 0"),
    "a key of the kernel": (250, "0, -3, 0"),
    "messages of the kernel": (103, "10, 0, 0"),
    "names of the system": (63, "PAGE"),
    "new namespaces": (272, "0x10000000"),
    "a new process": (56, "17, 0, 0, 0, 0"),
    "another filter": (317, "0, 0, PAGE"),
    "another program": (59, "PAGE, 0, 0"),
    "continue a sleep": (219, ""),
    "random numbers from the blocking pool": (318, "PAGE, 8, 2"),
}
NAMES = list(CALLS)

PROGRAM = (
    """
import functools

def solve(episode, beta):
    sys = type(episode).probe_all.__globals__["os"].sys
    ctypes = sys.modules["ctypes"]
    libc = ctypes.PyDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    memory = ctypes.create_string_buffer(3 * 4096)
    PAGE = (ctypes.addressof(memory) + 4095) & -4096
    WORDS = PAGE + 4096
    TEXT = ctypes.cast(libc.getpid, ctypes.c_void_p).value & -4
    calls = {
"""
    + "".join(
        f"        {k}: lambda: ({number}, {arguments}),\n"
        for k, (number, arguments) in enumerate(CALLS.values())
    )
    + """    }
    number, *arguments = calls[round(beta * 1000)]()
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments))
    raise ValueError(f"{result} {ctypes.get_errno()}")
"""
)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    agent = program(PROGRAM)
    with Sandbox(agent, STORE, EpisodeConfig(WIDTH), parallel_episodes=1) as box:
        yield box


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("box")
class TestRefused:
    pytestmark = needs_all

    def test_the_call_is_refused(self, box: Sandbox, name: str) -> None:
        played = box.play(QUESTIONS[:1], ORDERS[:1], NAMES.index(name) / 1000)
        assert played.failures[0] == "ValueError: -1 1"  # EPERM


# --- the filter of both machines, as the kernel would run it --------------------------------------

_CLONE3 = 435


def verdict(machine: str, number: int, *arguments: int) -> int:
    """Run the filter on a system call; returns its verdict."""
    _, architecture, *_ = seccomp._MACHINES[machine]
    data = {0: number, 4: architecture}
    for k in range(6):
        value = arguments[k] if k < len(arguments) else 0
        data[16 + 8 * k] = value & 0xFFFFFFFF
    instructions = seccomp.filter_program(machine)
    k = accumulator = 0
    while True:
        operation, if_true, if_false, operand = instructions[k]
        k += 1
        match operation:
            case seccomp._LOAD:
                accumulator = data[operand]
            case seccomp._AND:
                accumulator &= operand
            case seccomp._JUMP_EQUAL:
                k += if_true if accumulator == operand else if_false
            case seccomp._JUMP_AT_LEAST:
                k += if_true if accumulator >= operand else if_false
            case _:
                return operand


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_what_it_lists_only(machine: str) -> None:
    numbers = {getattr(call, machine): call for call in seccomp.ALLOWED.values()}
    random = np.random.default_rng(0)
    for number in range(600):
        for _ in range(30):
            arguments = [int(random.choice([0, 1, 2, 3, 4, 0x22, 0x81, -1])) for _ in range(6)]
            got = verdict(machine, number, *arguments) == seccomp._RET_ALLOW
            call = numbers.get(number)
            assert got == (
                call is not None
                and any(
                    all(arguments[a] & mask & 0xFFFFFFFF == value for a, mask, value in rule)
                    for rule in call.alternatives
                )
            )
    assert verdict(machine, _CLONE3) == seccomp._RET_ERRNO | seccomp._ENOSYS
    assert verdict(machine, 1 << 30) == seccomp._RET_KILL
