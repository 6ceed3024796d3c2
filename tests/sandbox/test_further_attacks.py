"""Attacks on the sandbox, each a few lines that the real player runs as a program.

An attack of the first kind returns something true if it has succeeded; otherwise its program plays
on, and must get the results of an honest one. Those of the second kind break off one of six
episodes; that episode must fail, and the others must not notice.
"""

from __future__ import annotations

import platform
import sys
import textwrap

import pytest
from sandbox.programs import HONEST, ORDERS, QUESTIONS, STORE, WIDTH, program, same

from autotts_gym.controllers.errors import MAX_MESSAGE_LENGTH, AgentError
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.sandbox import lockdown
from autotts_gym.sandbox.player import Sandbox

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or bool(lockdown.missing()),
    reason="the numbers of the system calls are those of x86-64, and all protections are needed",
)

#: The episode that attacks of the second kind break off: the one of question 3.
BROKEN = 3

#: What every attack starts with: modules and memory that the import rule keeps from it.
PREAMBLE = """
import math
g = __builtins__["__import__"].__globals__
sys, builtins = g["sys"], g["builtins"]
os, ctypes = sys.modules["os"], sys.modules["ctypes"]
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
page = ctypes.create_string_buffer(1 << 14)
P = ctypes.addressof(page) + 4095 & ~4095
L = ctypes.c_long

def call(*arguments):
    return libc.syscall(*(L(a) for a in arguments)) >= 0

def words(*values):
    return b"".join(v.to_bytes(4, sys.byteorder, signed=True) for v in values)

def readable(address):
    return libc.syscall(L(14), L(0), L(address), L(0), L(8)) == 0

def text(value):
    ctypes.memmove(P, value + bytes(1), len(value) + 1)
    return P

def scan(address, step, found):
    pages = 0
    while readable(address) and pages < 6000:
        pages += 1
        found.append(ctypes.string_at(address, 4096))
        address += step
    return pages
"""

FIRST_KIND = """
def solve(episode):
    try:
        won = attack(episode)
    except BaseException:
        won = None
    if won:
        raise RuntimeError(f"WON {won!r}")
    i = episode.opened - 1 if episode.opened else episode.branch()
    while not episode.finished(i):
        if not episode.can_probe(i):
            episode.extend(i)
        episode.probe(i)
    episode.answer(i)
"""

SECOND_KIND = """
def solve(episode):
    i, depth = episode.branch(), 1
    while not episode.probe(i)[1]:
        episode.extend(i)
        depth += 1
    if depth == 4:
        attack(episode)
    else:
        episode.answer(i)
"""

#: One system call each: number and arguments. P is a writable page.
CALLS = {
    "open": "2, text(b'/'), 0",
    "openat of a new file": "257, -100, text(b'/dev/shm/x'), 0o102, 0o600",
    "openat of a nameless file": "257, -100, text(b'.'), 0o20200002, 0o600",
    "openat2": "437, -100, text(b'/'), P + 64, 24",
    "open_by_handle_at": "304, 3, P, 0",
    "stat": "4, text(b'/'), P + 64",
    "fstat": "5, 3, P",
    "statx": "332, -100, text(b'/'), 0, 2047, P + 64",
    "access": "21, text(b'/'), 0",
    "readlink": "89, text(b'/proc/self/exe'), P + 64, 99",
    "getcwd": "79, P, 99",
    "getdents": "217, 3, P, 999",
    "unlink": "87, text(b'x')",
    "unix socket": "41, 1, 1, 0",
    "internet socket": "41, 2, 1, 0",
    "netlink socket": "41, 16, 3, 0",
    "socketpair": "53, 1, 1, 0, P",
    "pipe": "22, P",
    "dup": "32, 4",
    "close": "3, 3",
    "fcntl of blocking": "72, 3, 4, 2048",
    "size of a pipe": "72, 4, 1031, 1048576",
    "bytes in a pipe": "16, 3, 0x541B, P",
    "poll": "7, P, 0, 0",
    "select": "23, 0, 0, 0, 0, 0",
    "readv": "19, 3, P, 0",
    "pread": "17, 3, P, 1, 0",
    "lseek": "8, 0, 0, 1",
    "splice": "275, 3, 0, 4, 0, 1, 2",
    "tee": "276, 3, 4, 1, 2",
    "vmsplice": "278, 4, P, 1, 0",
    "fork": "57",
    "vfork of nothing": "58",
    "clone of a thread": "56, 0x10f00, P + 4096, 0, 0, 0",
    "clone3": "435, P, 88",
    "execve": "59, text(b'/bin/true'), 0, 0",
    "execveat": "322, 3, text(b''), 0, 0, 0x1000",
    "memfd_create": "319, text(b'x'), 0",
    "memfd_secret": "447, 0",
    "io_uring_setup": "425, 1, P",
    "userfaultfd": "323, 1",
    "mincore": "27, P, 4096, P + 4096",
    "cachestat": "451, 3, P, P + 64, 0",
    "merge pages": "28, P, 4096, 12",
    "load pages": "28, P, 4096, 22",
    "evict pages": "28, P, 4096, 21",
    "collapse pages": "28, P, 4096, 25",
    "inspect pages": "28, P, 4096, 100",
    "process_madvise": "440, -1, P, 1, 20, 0",
    "shared memory": "9, 0, 4096, 3, 0x21, -1, 0",
    "executable memory": "9, 0, 4096, 7, 0x22, -1, 0",
    "memory of a pipe": "9, 0, 4096, 1, 2, 3, 0",
    "locked memory": "9, 0, 4096, 3, 0x2022, -1, 0",
    "mlock": "149, P, 4096",
    "executable page": "10, P, 4096, 5",
    "pkey_mprotect": "329, P, 4096, 5, -1",
    "remap_file_pages": "216, P, 4096, 0, 0, 0",
    "perf_event_open": "298, P, 0, -1, -1, 0",
    "bpf": "321, 0, P, 48",
    "ptrace": "101, 0, 0, 0, 0",
    "process_vm_readv": "310, 1, P, 0, P, 0, 0",
    "kcmp": "312, 1, 1, 0, 0, 0",
    "pidfd_open": "434, 1, 0",
    "shmget": "29, 0, 4096, 0o1600",
    "semget": "64, 0, 1, 0o1600",
    "msgget": "68, 0, 0o1600",
    "mq_open": "240, text(b'x'), 66, 0o600, 0",
    "kill": "62, 1, 0",
    "kill all": "62, -1, 0",
    "tgkill": "234, 1, 1, 0",
    "rt_sigqueueinfo": "129, 1, 0, P",
    "getpid": "39",
    "getppid": "110",
    "gettid": "186",
    "getpgid": "121, 0",
    "getpriority": "140, 0, 0",
    "prlimit64": "302, 0, 7, 0, P",
    "setrlimit": "160, 0, P",
    "getrusage": "98, 0, P",
    "times": "100, P",
    "time": "201, 0",
    "gettimeofday": "96, P, 0",
    "clock_gettime": "228, 2, P",
    "clock_getres": "229, 1, P",
    "clock_nanosleep": "230, 1, 0, P, 0",
    "nanosleep": "35, P, 0",
    "pause by signal": "130, P, 8",
    "sysinfo": "99, P",
    "getcpu": "309, P, 0, 0",
    "sched_getaffinity": "204, 0, 128, P",
    "sched_yield": "24",
    "sched_setscheduler": "144, 0, 5, P",
    "membarrier": "324, 0, 0, 0",
    "rseq": "334, P, 32, 0, 0x53053053",
    "futex wait": "202, P, 128, 1, P + 64, 0",
    "futex wake, shared": "202, P, 1, 1, 0, 0",
    "alarm": "37, 9",
    "setitimer": "38, 0, P, 0",
    "timer_create": "222, 1, 0, P",
    "timerfd_create": "283, 1, 0",
    "eventfd": "290, 0, 0",
    "signalfd": "289, -1, P, 8, 0",
    "inotify": "294, 0",
    "epoll": "291, 0",
    "unshare": "272, 0x10000000",
    "setns": "308, 3, 0",
    "chroot": "161, text(b'/')",
    "mount": "165, 0, text(b'/'), 0, 0x20, 0",
    "setuid": "105, 0",
    "capget": "125, P, 0",
    "seccomp": "317, 1, 0, P",
    "enable the counter": "157, 26, 1, 0, 0, 0",
    "dumpable": "157, 4, 1, 0, 0, 0",
    "survive the parent": "157, 1, 0, 0, 0, 0",
    "arch_prctl": "158, 0x1011, 0",
    "personality": "135, 0xffffffff",
    "landlock": "444, 0, 0, 1",
    "add_key": "248, text(b'user'), P, P, 1, -4",
    "keyctl": "250, 0, -3, 0",
    "uname": "63, P",
    "getrandom of the blocking pool": "318, P, 1, 2",
    "64 bits that look like 32": "9, 0, 4096, 0x100000007, 0x100000022, -1, 0",
}

FIRST = {
    "files": """
        for name in ("/proc/self/maps", "/etc/passwd", "/dev/mem", "/sys/kernel", sys.path[-1]):
            try:
                return os.open(name, 0) + 1
            except OSError:
                pass
    """,
    "listing": "return os.listdir('/')",
    "import from a file": """
        for name in ("json.tool", "wave", "autotts_gym.traces.store", "this"):
            try:
                return builtins.__import__(name)
            except ImportError:
                pass
    """,
    "modules of the player": """
        return [name for name in sys.modules if name.startswith("autotts_gym.")
                and name.split(".")[1] not in ("controllers", "mdp", "sandbox", "utils")] + [
                name for name in ("autotts_gym.mdp.batch", "autotts_gym.sandbox.player",
                                  "autotts_gym.mdp.trace_dataset") if name in sys.modules]
    """,
    "objects": """
        wanted = "gold" + "-5f"
        return [o for o in sys.modules["gc"].get_objects() if wanted in str(o)[:999]
                and type(o) in (str, bytes, list, tuple)]
    """,
    "frames": """
        frame, found = sys._getframe(), []
        while frame := frame.f_back:
            for name, value in [*frame.f_locals.items(), *frame.f_globals.items()]:
                if name in ("question", "questions", "store", "batch", "gold", "traces"):
                    found.append(name)
        return found
    """,
    "slot before the first action": """
        return b"gold" in bytes(episode.facts._slot) or sum(episode.facts._words[-2000:])
    """,
    "slot after a probe": """
        i = episode.branch()
        episode.probe(i)
        return not episode.finished(i) and b"gold" in bytes(episode.facts._slot)
    """,
    "all memory": """
        found = []
        starts = [id(found), id(sys), P, ctypes.cast(libc.printf, ctypes.c_void_p).value,
                  libc.environ and ctypes.c_void_p.in_dll(libc, "environ").value]
        pages = sum(scan(a & ~4095, s, found) for a in starts for s in (4096, -4096))
        return pages <= 200 or bytes((*b"gold", *b"-5f1c")) in b"".join(found)
    """,
    "environment": """
        libc.getenv.restype = ctypes.c_char_p
        names = (b"HOME", b"PATH", b"USER", b"PWD", b"AUTOTTS_PUBLISHED", b"AUTOTTS_TRACES")
        return [n for n in names if libc.getenv(n)] or dict(os.environ)
    """,
    "descriptors to read": """
        ctypes.set_errno(0)
        return [fd for fd in range(600) if fd != 3 and libc.read(fd, L(P), L(9)) > 0]
    """,
    "descriptors to write": """
        return [fd for fd in range(600) if fd not in (1, 2, 4) and libc.write(fd, L(P), L(9)) > 0]
    """,
    "empty message": "return os.write(4, b'') != 0",
    "writable slot": """
        a = ctypes.addressof(ctypes.c_char.from_buffer_copy(b"x"))
        slot = sys.modules["numpy"].frombuffer(episode.facts._slot, "u1").ctypes.data
        return call(10, slot, 4096, 3)
    """,
    "writable copy of the slot": """
        slot = sys.modules["numpy"].frombuffer(episode.facts._slot, "u1").ctypes.data
        copy = libc.syscall(L(25), L(slot), L(0), L(4096), L(1))
        return copy > 0 and call(10, copy, 4096, 3)
    """,
    "clocks of Python": """
        time = sys.modules["time"]
        def read():
            for name in ("time", "monotonic", "perf_counter", "thread_time"):
                try:
                    yield getattr(time, name)()
                except OSError:
                    yield 0
        before = list(read())
        sum(range(10**6))
        return before != list(read())
    """,
    "clocks of C": """
        def read():
            ctypes.memset(P, 0, 4096)
            return ([libc.clock_gettime(k, L(P)) for k in range(12)], libc.time(0), libc.clock(),
                    libc.gettimeofday(L(P + 64), 0), ctypes.string_at(P, 128))
        before = read()
        sum(range(10**6))
        return before != read()
    """,
    "clock of the system call page": """
        time = ctypes.CFUNCTYPE(L, L)(0xffffffffff600400)
        return time(0) > 0
    """,
    "sleep": "sys.modules['time'].sleep(0.01)\nreturn True",
    "thread": "sys.modules['_thread'].start_new_thread(print, ())\nreturn True",
    "spawn": "return os.posix_spawn('/bin/true', ['true'], {})",
    "raise a limit": "sys.modules['resource'].setrlimit(0, (99, 99))\nreturn True",
    "signal to the parent": "os.kill(os.getppid(), 9)\nreturn True",
    "signal to itself": "sys.modules['_signal'].raise_signal(10)\nreturn True",
    "preemption": """
        # The kernel clears this pointer when it interrupts the process.
        libc.pthread_self.restype = ctypes.c_size_t
        area = libc.pthread_self() + ctypes.c_ssize_t.in_dll(libc, "__rseq_offset").value
        pointer = ctypes.c_ulong.from_address(area + 8)
        ctypes.memset(P, 0, 256)
        ctypes.c_uint.from_address(P + 60).value = 0x53053053
        for offset, value in ((8, P), (16, 1), (24, P + 64)):
            ctypes.c_ulong.from_address(P + 128 + offset).value = value
        pointer.value = P + 128
        for k in range(3_000_000):
            if pointer.value != P + 128:
                return k
    """,
    "number of the processor": """
        found = set()
        for _ in range(30):
            found.add(libc.sched_getcpu())
            sum(range(200_000))
        return len(found) > 1
    """,
    "answers that were not revealed": """
        for k in range(9):
            try:
                return episode.facts.answer_text(k)
            except ValueError:
                pass
    """,
    "negative branches": """
        for act in (episode.probe, episode.extend, episode.prune):
            for i in (-1, -2, 2, 2**31, 2**64):
                try:
                    act(i)
                    return act
                except (Exception,):
                    pass
    """,
    "costs of its own": """
        i = episode.branch()
        episode.facts.spent = -10**9
        episode.log.clear()
        episode.facts.interval = 1
        episode.note("spent", -1e300)
    """,
    "a false slot": """
        env = episode.facts
        i = episode.branch()
        episode.probe(i)
        env._words = memoryview(bytearray(len(env._slot))).cast("q")
        env._read_slot()
        episode.ended = False
        won = sum(env._columns[0])
        env._words = env._slot.cast("q")
        env._read_slot()
        return won and None
    """,
    "trace function": """
        seen = []
        sys.settrace(lambda frame, kind, value: seen.append(frame.f_code.co_name))
        episode.branch()
        sys.settrace(None)
        return [name for name in seen if name in ("play", "lock", "restrict_guest", "reveal")]
    """,
    "deep recursion": """
        sys.setrecursionlimit(10**6)
        def f(n):
            return n and f(n - 1)
        f(2000)
    """,
    "pickle": """
        class Evil:
            def __reduce__(self):
                return os.system, ("true",)
        pickle = builtins.__import__("_pickle")
        return pickle.loads(pickle.dumps(Evil())) == 0
    """,
    "memory up to the limit": """
        try:
            blocks = [bytearray(1 << 24) for _ in range(999)]
            return len(blocks)
        except MemoryError:
            pass
    """,
    "standard output": """
        print("x" * 10**6)
        print("y", file=sys.stderr)
        os.write(1, b"z" * 10**6)
    """,
    "signal handlers": """
        signal = sys.modules["_signal"]
        for k in range(1, 65):
            try:
                signal.signal(k, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
    """,
}

SECOND = {
    "part of an action": "os.write(4, bytes(3))\nos.read(3, 1)",
    "part of a code": "os.write(4, words(-1)[:2])\nos.read(3, 1)",
    "4 KiB and a byte": "os.write(4, bytes(4097))\nos.read(3, 1)",
    "64 KiB of zeros": "os.write(4, bytes(65536))\nos.read(3, 1)",
    "largest action": "os.write(4, words(2**31 - 1))\nos.read(3, 1)",
    "action beyond the last": "os.write(4, words(10))\nos.read(3, 1)",
    "flag without BRANCH": "os.write(4, words(1 << 20))\nos.read(3, 1)",
    "flagged CONTINUE": "os.write(4, words((1 << 20) + 2))\nos.read(3, 1)",
    "two flags": "os.write(4, words((1 << 21) + 1))\nos.read(3, 1)",
    "two answers": "os.write(4, words(0, 0))\nos.read(3, 1)",
    "an action after the answer": "os.write(4, words(0, 1))\nos.read(3, 1)",
    "an answer, then another": "episode.answer(0)\nos.write(4, words(8))\nos.read(3, 1)",
    "a code among actions": "os.write(4, words(1, -1))\nos.read(3, 1)",
    "end without an answer": "os.write(4, words(-1))\nos.read(3, 1)",
    "end with a text": "episode.answer(0)\nos.write(4, words(-1) + b'text')\nos.read(3, 1)",
    "end before the answer": "os.write(4, words(-1, 0))\nos.read(3, 1)",
    "failure after the answer": "episode.answer(0)\nos.write(4, words(-2) + b'x')\nos.read(3, 1)",
    "unknown code": "os.write(4, words(-99))\nos.read(3, 1)",
    "smallest code": "os.write(4, words(-2**31))\nos.read(3, 1)",
    "not loaded, it says": "os.write(4, words(-3) + b'x')\nos.read(3, 1)",
    "outcomes that it does not read": """
        while True:
            os.write(4, words(1))
    """,
    "escape sequences": r"os.write(4, words(-2) + b'A\x1b]0;t\x07\x1b[2J\r\n\0\x9b31m' * 9)",
    "bidirectional text": "os.write(4, words(-2) + '\\u202eabc\\u2066\\u200b\\u2028'.encode())",
    "invalid UTF-8": r"os.write(4, words(-2) + b'\xff\xfe\xed\xa0\x80' * 99)",
    "a long failure": "os.write(4, words(-2) + b'x' * 4092)",
    "a failure of many frames": "os.write(4, words(-2) + b'x' * 60000)",
    "error with escape sequences": r"raise RuntimeError('\x1b[2J\x1b]0;title\x07 \x9b')",
    "error of 100 MB": "raise RuntimeError('x' * 100_000_000)",
    "error of many lines": r"raise RuntimeError('\n' * 10_000_000 + 'x')",
    "error with a name": r"raise type('\x1b[31m' + 'E' * 9999, (Exception,), {})('x')",
    "error whose text fails": """
        class Evil(Exception):
            def __str__(self):
                raise SystemExit(0)
        raise Evil
    """,
    "error whose text is no text": """
        class Evil(BaseException):
            def __str__(self):
                return 3
        raise Evil
    """,
    "error with surrogates": r"raise KeyError('\ud800\udfff')",
    "SystemExit": "raise SystemExit(0)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "GeneratorExit": "raise GeneratorExit",
    "exit with 0": "episode.answer(0)\nos._exit(0)",
    "exit with 77": "os._exit(77)",
    "segmentation fault": "ctypes.string_at(8)",
    "write to the slot": """
        slot = sys.modules["numpy"].frombuffer(episode.facts._slot, "u1").ctypes.data
        ctypes.memset(slot, 0, 8)
    """,
    "write to code": """
        code = ctypes.cast(libc.time, ctypes.c_void_p).value
        if call(10, code & ~4095, 4096, 3):
            ctypes.memmove(code, bytes([0x31, 0xC0, 0xC3]), 3)  # returns 0
            if call(10, code & ~4095, 4096, 5) and libc.time(0) == 0:
                episode.answer(0)
    """,
    "call of another architecture": """
        libc.syscall(L(0x40000000))
        episode.answer(0)
    """,
    "stack overflow": """
        sys.setrecursionlimit(10**9)
        f = lambda x: f(x)
        g = []
        for _ in range(10**6):
            g = [g]
        repr(g)
        f(1)
    """,
    "all memory used": """
        kept = []
        try:
            while True:
                kept.append(bytearray(1 << 20))
        except MemoryError:
            while True:
                kept.append([])
    """,
    "waits without an action": "os.read(3, 1)",
    "fork of Python": "os.fork()",
    "no end": "while True: pass",
    "no end, in C": "sum(range(10**14))",
    "no end, ignoring errors": """
        while True:
            try:
                while True:
                    raise KeyError
            except BaseException:
                pass
    """,
    "says that it has ended": "episode.ended = True",
    "says that it has answered": "episode.ended = True\nepisode.log.append(0)\nepisode.info = {}",
    "work when it ends": """
        class Evil:
            def __del__(self):
                os.write(4, words(0))
        builtins.evil = Evil()
        builtins.__import__("atexit").register(os.write, 4, words(0))
    """,
    "zeros in a failure": "os.write(4, words(-2) + bytes(10))",
}

SOURCES = {
    "NUL": "\0",
    "NUL in a text": "x = '\0'",
    "latin-1": "# coding: latin-1\n",
    "utf-7": "# coding: utf-7\n",
    "second line": "#!\n# -*- coding: utf-16 -*-\n",
    "form feed": "\f# coding: cp1252\n",
    "no such encoding": "# coding: \x1b\n# coding: idna\n",
    "parentheses": "x = " + "(" * 9999 + ")" * 9999 + "\n",
    "signs": "x = " + "-" * 500_000 + "1\n",
    "attributes": "x = a" + ".b" * 200_000 + "\n",
    "comparisons": "x = " + "1 if 1 else " * 50_000 + "1\n",
    "size": "#" * (1 << 20) + "\n",
    "digits": "x = " + "9" * 100_000 + "\n",
    "many classes": "".join(f"class C{k}:\n def solve(self, q): pass\n" for k in range(20_000)),
    "long arguments": "def solve(a, b, c, d=" + "'x' " * 100_000 + "): pass\n",
    "generator": "def solve(episode):\n yield\n",
    "carriage return": "# \rdef solve(): pass\r#",
}


def _play(text: str, time_limit: float = 20.0) -> EpisodeResults:
    config = EpisodeConfig(max_branches=WIDTH)
    with Sandbox(program(text), STORE, config, time_limit=time_limit, settle=True) as box:
        return box.play(QUESTIONS, ORDERS, 0.0)


def _program(body: str, kind: str) -> str:
    body = textwrap.indent(textwrap.dedent(body.lstrip("\n")), "    ")
    return f"{PREAMBLE}\ndef attack(episode):\n{body}\n{kind}"


@pytest.fixture(scope="module")
def honest() -> EpisodeResults:
    results = _play(HONEST)
    assert not results.failures
    assert results.correct.all()
    return results


def test_a_success_is_noticed() -> None:
    found = _play(_program("return readable(P) and call(12, 0) and not call(999)", FIRST_KIND))
    assert set(found.failures.values()) == {"RuntimeError: WON True"}


def test_system_calls(honest: EpisodeResults) -> None:
    attempts = "\n".join(
        f"if call({arguments}): won.append({name!r})" for name, arguments in CALLS.items()
    )
    found = _play(_program(f"won = []\n{attempts}\nreturn won", FIRST_KIND))
    assert not found.failures
    same(found, honest)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST)
def test_attack_is_in_vain(name: str, honest: EpisodeResults) -> None:
    found = _play(_program(FIRST[name], FIRST_KIND))
    assert not found.failures
    same(found, honest)


@pytest.mark.slow
@pytest.mark.parametrize("name", SECOND)
def test_attack_breaks_its_own_episode(name: str, honest: EpisodeResults) -> None:
    found = _play(_program(SECOND[name], SECOND_KIND), time_limit=2.0)
    assert list(found.failures) == [BROKEN]
    assert not found.correct[BROKEN]
    assert 0 < len(found.failures[BROKEN]) <= MAX_MESSAGE_LENGTH
    same(found, honest, but=(BROKEN,))


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_source_is_refused(name: str) -> None:
    with pytest.raises(AgentError) as error:
        program(SOURCES[name] + ("" if "solve" in SOURCES[name] else HONEST))
    assert len(str(error.value)) <= MAX_MESSAGE_LENGTH + 20
    assert str(error.value).isprintable()


@pytest.mark.parametrize("parallel_episodes", [1, 6])
def test_nothing_tells_an_episode_its_place(parallel_episodes: int) -> None:
    """What a process can find out before its first action is the same in all."""
    attack = """
        random, time, np = (builtins.__import__(n) for n in ("random", "time", "numpy"))
        found = [id(object()), hash("x"), random.random(), np.random.default_rng(0).random(),
                 np.random.rand(), sys.getrefcount(None), sys.getallocatedblocks(),
                 sys.modules["gc"].get_count(), hash(bytes(episode.facts._slot)),
                 time.process_time(), P, libc.getpid(), libc.pthread_self(),
                 hash(ctypes.string_at(P & ~4095, 4096)), libc.rand(), libc.random()]
        libc.getauxval.restype = L
        found += [libc.getauxval(k) for k in range(52)]
        found.append(ctypes.string_at(libc.getauxval(25), 16))  # 16 random bytes
        return found and hash(str(found)), found[:14]
    """
    config = EpisodeConfig(max_branches=WIDTH)
    agent = program(_program(attack, FIRST_KIND))
    with Sandbox(agent, STORE, config, parallel_episodes=parallel_episodes) as box:
        failures = box.play(QUESTIONS, ORDERS, 0.0).failures
    assert len(failures) == len(QUESTIONS)
    assert len(set(failures.values())) == 1, failures
    assert "WON" in failures[0]
