"""Attacks on the answers, on other episodes, and on the machine.

A successful attack raises ``Breach`` or prints ``BREACH``; none may. An attack is either reported
as the failure of its episode, or has no effect: the results then equal those of an honest program.
Other episodes are unaffected.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from autotts_gym.controllers.errors import GivenUpError
from autotts_gym.controllers.function_agent import agent_from_source
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.sandbox.lockdown import protections
from autotts_gym.sandbox.player import Sandbox

sys.path.insert(0, str(Path(__file__).parent))
from programs import GOLD, HONEST, ORDERS, QUESTIONS, STORE, WIDTH, program, same

pytestmark = pytest.mark.skipif(
    not {"seccomp"} <= set(protections()), reason="the refusals tested here need seccomp"
)

#: The question whose episode attacks: its first branch ends at the third probe.
ATTACKED = 2

FRAME = """
import numpy as np

def module(name):
    \"\"\"A module that programs cannot import.\"\"\"
    sys = type(HANDLE).probe_all.__globals__["os"].sys
    return sys.modules.get(name) or sys.modules["builtins"].__import__(name)

def libc():
    return module("ctypes").CDLL(None, use_errno=True)

def check(value):
    \"\"\"Return value of a C function, or its error as an exception.\"\"\"
    if value == -1:
        ctypes = module("ctypes")
        raise OSError(ctypes.get_errno(), module("os").strerror(ctypes.get_errno()))
    return value

class Breach(Exception):
    pass

def solve(episode):
    global HANDLE
    HANDLE = episode
    i = episode.branch()
    probes = 1
    while not episode.probe(i)[1]:
        episode.extend(i)
        probes += 1
        if probes == PROBES:
            attack(episode)
    episode.answer(i)
"""


def attacker(attack: str, probes: int = ATTACKED + 1) -> str:
    """A program that attacks after its third probe, before it answers."""
    return FRAME.replace("PROBES", str(probes)) + f"\ndef attack(episode):\n{attack}\n"


def play(text: str, time_limit: float = 20.0) -> EpisodeResults:
    with Sandbox(
        program(text), STORE, EpisodeConfig(WIDTH), settle=True, time_limit=time_limit
    ) as box:
        return box.play(QUESTIONS, ORDERS, 0.0)


@pytest.fixture(scope="module")
def honest() -> EpisodeResults:
    played = play(HONEST)
    assert played.correct.all()
    return played


#: The attacking episode and those after it, which take as many probes.
LATER = tuple(range(ATTACKED, 6))

DENIED = r"PermissionError: \[Errno 1\] Operation not permitted|PermissionError"
#: Libraries that are loaded prepare for a fork, and some crash where it is refused.
CRASHED = r"ProcessError: the process of the episode ended with signal 11"
PARENT = os.getpid()

# name: (the body of attack(episode), the recorded message)
REPORTED = {
    # --- what a program may import
    "import os": (
        "    import os",
        "ImportError: an untrusted program cannot import os; allowed modules",
    ),
    "import socket": ("    import socket", "ImportError"),
    "import a package of ours": (
        "    import autotts_gym.traces.store",
        "ImportError: an untrusted program cannot import autotts_gym.traces.store",
    ),
    "import ours around the rule": (
        "    module('autotts_gym.traces.store')\n    raise Breach",
        "ModuleNotFoundError|PermissionError",
    ),
    "import from a relative place": ("    from . import secret", "ImportError"),
    # --- files
    "read a file": ("    raise Breach(open('/etc/passwd').read())", DENIED),
    "read the traces": (f"    raise Breach(open({__file__!r}).read())", DENIED),
    "write a file": ("    open('mark', 'w').write('x')\n    raise Breach", DENIED),
    "write a file in /tmp": ("    open('/tmp/mark', 'w')\n    raise Breach", DENIED),
    "list a folder": ("    raise Breach(module('posix').listdir('/proc'))", DENIED),
    "make a folder": ("    module('posix').mkdir('x')\n    raise Breach", DENIED),
    "change the folder": ("    module('posix').chdir('/')\n    raise Breach", DENIED),
    "remove a file": (f"    module('posix').unlink({__file__!r})\n    raise Breach", DENIED),
    "run a file of numpy's": ("    np.load('/etc/passwd')\n    raise Breach", DENIED),
    "memory that is a file": (
        "    module('posix').memfd_create('x')\n    raise Breach",
        DENIED,
    ),
    # --- other processes' memory
    "the player's memory in /proc": (
        f"    raise Breach(open('/proc/{PARENT}/mem', 'rb').read(1))",
        DENIED,
    ),
    "the player's environment in /proc": (
        f"    raise Breach(open('/proc/{PARENT}/environ').read())",
        DENIED,
    ),
    "its own maps in /proc": ("    raise Breach(open('/proc/self/maps').read())", DENIED),
    "process_vm_readv": (
        f"    check(libc().process_vm_readv({PARENT}, None, 0, None, 0, 0))\n    raise Breach",
        DENIED,
    ),
    "ptrace": (f"    check(libc().ptrace(16, {PARENT}, None, None))\n    raise Breach", DENIED),
    "a pidfd of the player": (
        f"    module('posix').pidfd_open({PARENT})\n    raise Breach",
        DENIED,
    ),
    # --- processes and signals
    "fork": ("    module('posix').fork()\n    raise Breach", f"{DENIED}|{CRASHED}"),
    "fork bomb": ("    while True: module('posix').fork()", f"{DENIED}|{CRASHED}"),
    "threads": (
        "    module('_thread').start_new_thread(print, ())\n    raise Breach",
        "RuntimeError: can't start new thread",
    ),
    "another program": ("    module('posix').execv('/bin/sh', ['sh'])\n    raise Breach", DENIED),
    "signal to the player": (
        f"    module('posix').kill({PARENT}, {signal.SIGTERM:d})\n    raise Breach",
        DENIED,
    ),
    "signal to all": ("    module('posix').kill(-1, 9)\n    raise Breach", DENIED),
    "signal to its parent": (
        "    module('posix').kill(module('posix').getppid(), 9)\n    raise Breach",
        DENIED,
    ),
    "limits": (
        "    check(libc().setrlimit(0, module('ctypes').create_string_buffer(16)))\n"
        "    raise Breach",
        DENIED,
    ),
    "remove the lockdown": (
        "    check(libc().prctl(1, 0, 0, 0, 0))\n    raise Breach",
        DENIED,
    ),
    "become root": ("    module('posix').setuid(0)\n    raise Breach", DENIED),
    "a new namespace": ("    check(libc().unshare(0x10000000))\n    raise Breach", DENIED),
    # --- the network
    "socket": ("    check(libc().socket(2, 1, 0))\n    raise Breach", DENIED),
    "socket pair": (
        "    check(libc().socketpair(1, 1, 0, module('ctypes').create_string_buffer(8)))\n"
        "    raise Breach",
        DENIED,
    ),
    # --- memory and time
    "memory bomb": ("    bomb = [bytearray(1 << 28) for _ in range(99)]", "MemoryError"),
    "memory bomb of numpy's": (
        "    bomb = [np.ones(1 << 25) for _ in range(99)]",
        r".*MemoryError: Unable to allocate",
    ),
    "recursion": ("    attack(episode)", "RecursionError"),
    "endless loop": ("    while True: pass", "TimeLimitError: no end after 2 s"),
    "endless loop in C": ("    sum(iter(int, 1))", "TimeLimitError: no end after 2 s"),
    "endless sleep": ("    module('time').sleep(1e6)", DENIED),
    "endless loop that ignores signals": (
        "    signal = module('_signal')\n"
        "    signal.signal(24, signal.SIG_IGN)\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\n"
        "    while True: pass",
        "TimeLimitError: no end after 2 s",
    ),
    "endless output": ("    while True: print('x' * 9999)", "TimeLimitError: no end after 2 s"),
    "endless notes": (
        "    while True: episode.note('x' * 99, 1.0)",
        "TimeLimitError: no end after 2 s|MemoryError",
    ),
    "no end after the answer": (
        "    episode.answer(0)\n    while True: pass",
        "TimeLimitError: no end after 2 s",
    ),
    # --- its process
    "abort": ("    module('posix').abort()", "ProcessError: the process of the episode ended with"),
    "a wild pointer": (
        "    module('ctypes').string_at(1)",
        r"ProcessError: the process of the episode ended with signal 11 \(SIGSEGV\)",
    ),
    "leave": (
        "    module('posix')._exit(0)",
        "ProcessError: the process of the episode ended with exit code 0",
    ),
    "write to the slot": (
        "    ctypes = module('ctypes')\n"
        "    memory = episode._env._slot\n"
        "    place = np.frombuffer(memory, np.uint8).ctypes.data\n"
        "    ctypes.memset(place, 1, 8)\n"
        "    raise Breach",
        "ProcessError: the process of the episode ended with signal 11",
    ),
    "make the slot writable": (
        "    place = np.frombuffer(episode._env._slot, np.uint8).ctypes.data\n"
        "    c = module('ctypes')\n"
        "    check(libc().mprotect(c.c_void_p(place), c.c_size_t(4096), 3))\n"
        "    raise Breach",
        r"PermissionError: \[Errno 13\]",
    ),
    "read beyond the slot": (
        "    place = np.frombuffer(episode._env._slot, np.uint8).ctypes.data\n"
        "    c, size = module('ctypes'), len(episode._env._slot)\n"
        "    mremap = libc().mremap\n"
        "    mremap.restype = c.c_void_p\n"
        "    place = mremap(c.c_void_p(place), c.c_size_t(size), c.c_size_t(64 * size), 1)\n"
        "    raise Breach(c.string_at(place + size, 8))",
        "ProcessError: the process of the episode ended with signal (7|11)|TypeError",
    ),
    # --- the protocol
    "an action that is illegal": (
        "    episode._env.step(2 + 1)",
        r"IllegalActionError: CONTINUE\(1\) is illegal here: see 'Action Space' of AutoTTS-v0",
    ),
    "an action that does not exist": (
        "    episode._env.step(999)",
        "IllegalActionError: action 999 is illegal here",
    ),
    "an action that is a huge number": ("    episode._env.step(1 << 40)", "OverflowError"),
    "a probe that is not paid": (
        "    episode._env._mask[:] = [1] * len(episode._env._mask)\n    episode.probe(1)",
        r"IllegalActionError: PROBE\(1\) is illegal here",
    ),
    "an action after the end": (
        "    episode.answer(0)\n    episode._env.step(1)",
        "IllegalActionError: BRANCH is illegal here: the episode has ended",
    ),
    "half an action": (
        "    module('posix').write(episode._env._output_pipe, b'abc')\n    module('time').sleep(9)",
        "ProtocolError: the program wrote an invalid message",
    ),
    "an invalid code": (
        "    episode._env.send_code(-77, 'x')\n    module('time').sleep(9)",
        "ProtocolError: the program wrote an invalid message",
    ),
    "a flood of actions": (
        "    while True: module('posix').write(episode._env._output_pipe, b'\\0' * 4096)",
        "IllegalActionError: ANSWER is illegal here: the episode has ended",
    ),
    "to have ended without an answer": (
        "    episode._env.send_code(-1)\n    while True: pass",
        "NoAnswerError: solve returned without episode.answer()",
    ),
    "a long message": (
        "    episode._env.send_code(-2, 'x' * 9999)\n    while True: pass",
        f"{'x' * 500}$",
    ),
    "a message that is not text": (
        "    module('posix').write(episode._env._output_pipe, b'\\xfe\\xff\\xff\\xff\\xff\\xfe')\n"
        "    while True: pass",
        "\ufffd\ufffd",
    ),
    # --- crafted objects
    "an exception whose text fails": (
        "    class Silent(Exception):\n        def __str__(self): raise self\n    raise Silent",
        "Silent",
    ),
    "an exception whose text never ends": (
        "    class Long(Exception):\n"
        "        def __str__(self):\n"
        "            while True: pass\n"
        "    raise Long",
        "TimeLimitError: no end after 2 s",
    ),
    "a branch that is not a number": (
        "    class Odd(int):\n"
        "        def __ge__(self, other): return True\n"
        "        def __le__(self, other): return True\n"
        "        def __lt__(self, other): return True\n"
        "        def __radd__(self, other): return 77\n"
        "    episode.prune(Odd(99))",
        "IllegalActionError|IndexError|TypeError",
    ),
    "a pickle": (
        "    class Loaded:\n"
        "        def __reduce__(self): return print, ('BREACH',)\n"
        "    episode.answer(Loaded())",
        "TypeError",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REPORTED)
def test_an_attack_is_reported(case: str, honest: EpisodeResults) -> None:
    """Two consecutive episodes attack, so the protection must persist."""
    attack, message = REPORTED[case]
    limit = 2.0 if "no end after" in message or "ProcessError" in message else 20.0
    text = attacker(attack)
    with Sandbox(program(text), STORE, EpisodeConfig(WIDTH), settle=True, time_limit=limit) as box:
        played = box.play(QUESTIONS[: ATTACKED + 2], ORDERS[: ATTACKED + 2], 0.0)
    for one in (played.failures[k] for k in (ATTACKED, ATTACKED + 1)):
        assert "Breach" not in one
        assert re.match(message, one), one
    assert not played.correct[ATTACKED:].any()
    alone = [k for k in range(6) if k < ATTACKED]
    assert_array_equal(played.correct[alone], honest.correct[alone])
    assert_array_equal(played.tokens[alone], honest.tokens[alone])
    assert set(played.failures) == {ATTACKED, ATTACKED + 1}


# name: the body of attack(episode), after which the program continues as usual
HARMLESS = {
    "gold in frames": """
    frame = module("sys")._getframe()
    while frame:
        for name, value in [*frame.f_locals.items(), *frame.f_globals.items()]:
            if name != "SECRET" and SECRET in repr(value)[:100_000]:
                raise Breach(name)
        frame = frame.f_back
""",
    "gold among all objects": """
    gc = module("gc")
    gc.unfreeze()
    for one in gc.get_objects():
        if isinstance(one, (str, bytes)) and SECRET in str(one):
            raise Breach(one)
        if isinstance(one, (dict, list, tuple)) and len(one) < 10_000:
            for value in one.values() if isinstance(one, dict) else one:
                if isinstance(value, str) and SECRET in value:
                    raise Breach(value)
        if type(one).__name__ in ("TraceStore", "TraceDataset", "Batch", "Tables"):
            raise Breach(type(one))
""",
    "gold in its slot": """
    if SECRET.encode() in bytes(episode._env._slot):
        raise Breach
""",
    "gold in the result": """
    if episode.info or episode._env.step(0)[4]:
        raise Breach(episode.info)
    HANDLE.ended = True
    raise EOFError
""",
    "modules that hold traces": """
    for name in module("sys").modules:
        if name.startswith(tuple(f"autotts_gym.{p}" for p in ("traces", "evaluation", "gym_envs"))):
            raise Breach(name)
        if name.split(".")[0] in ("pyarrow", "numba", "gymnasium"):
            raise Breach(name)
""",
    "the environment": """
    environ = module("ctypes").POINTER(module("ctypes").c_char_p).in_dll(libc(), "environ")
    if module("posix").environ and len(module("os").environ) or environ and environ[0]:
        raise Breach(environ[0])
""",
    "other open files": """
    os, open_ = module("posix"), []
    for fd in range(3, 200):
        try:
            os.write(fd, b"")
            open_.append(fd)
        except OSError:
            pass
    if open_ != [episode._env._output_pipe]:
        raise Breach(open_)
""",
    "patching the rules": """
    episode_module = module("autotts_gym.controllers.episode")
    actions = module("autotts_gym.mdp.actions")
    episode_module.Episode.spent = property(lambda self: 0)
    episode_module.Episode.can_probe = lambda self, i: True
    episode_module.NO_BUDGET = 10**9
    actions.ANSWER = 0
    type(episode).ended = False
    module("builtins").max = module("builtins").min = lambda *some: 0
""",
    "patching the episode": """
    episode.log.append(1)
    episode.info["correct"] = True
    episode.info["tokens"] = 0
    episode._env.spent = -10**9
""",
    "state of other episodes": """
    world = type(episode).probe_all.__globals__
    for place in (world, vars(module("builtins")), globals(), np.__dict__, vars(module("sys"))):
        if place.get("visited"):
            raise Breach
        place["visited"] = True
    np.random.seed(1)
""",
    "attributes without compiled counterpart": """
    try:
        episode.facts, episode.log, episode.notes
    except AttributeError:
        raise Breach
""",
    "detecting a debugger": """
    if module("sys").gettrace() or module("sys").getprofile() or episode.notes:
        raise Breach
""",
    "printing": """
    print("BREACH", flush=True)
    print("BREACH", file=module("sys").stderr, flush=True)
""",
    "signal handlers": """
    for number in range(1, 60):
        try:
            module("_signal").signal(number, module("_signal").SIG_IGN)
        except (OSError, ValueError):
            pass
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HARMLESS)
def test_an_attack_has_no_effect(
    case: str, honest: EpisodeResults, capfd: pytest.CaptureFixture[str]
) -> None:
    # The source must not contain the secret.
    body = f"\n    SECRET = '-'.join(['gold', {GOLD[5:]!r}])" + HARMLESS[case]
    played = play(attacker(body))
    assert not [message for message in played.failures.values() if "Breach" in message]
    if case == "gold in the result":  # it ended its episode to see the result
        assert set(played.failures.values()) == {"EOFError"}
        assert not played.correct[list(LATER)].any()
    else:
        same(played, honest)
    assert "BREACH" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_an_episode_beyond_the_time_limit(honest: EpisodeResults) -> None:
    """It fails alone, at the cost so far."""
    text = HONEST.replace(
        "    episode.answer",
        f"    while episode.depth(i) == {ATTACKED + 1}: pass\n    episode.answer",
    )
    played = play(text, time_limit=2.0)
    assert played.failures == {ATTACKED: "TimeLimitError: no end after 2 s"}
    assert played.tokens[ATTACKED] == honest.tokens[ATTACKED]
    assert_array_equal(np.delete(played.correct, ATTACKED), True)
    assert_array_equal(np.delete(played.tokens, ATTACKED), np.delete(honest.tokens, ATTACKED))


def test_given_up_after_three_kills_in_a_row() -> None:
    with pytest.raises(GivenUpError, match=r"signal 11 .*, 3 times in a row"):
        play(attacker("    module('ctypes').string_at(1)", probes=2), time_limit=5.0)


def test_a_sandbox_behaves_like_plain_python() -> None:
    """A program that detects the execution path detects plain Python."""
    text = """
def solve(episode):
    i = episode.branch()
    plain = hasattr(episode, "facts")
    for _ in range(2 if plain else 1):
        if episode.can_extend(i):
            episode.extend(i)
    episode.probe(i)
    episode.answer(i)
"""
    trusted = agent_from_source(Path("program.py"), text.encode())
    plain = Rollout(trusted, STORE, EpisodeConfig(WIDTH), interpret=True, settle=True)
    found = play(text)
    same(found, plain.play(QUESTIONS, ORDERS, 0.0))
    assert not found.failures
    # BRANCH, CONTINUE twice as in plain Python, PROBE, ANSWER.
    assert found.actions[5] == 5
