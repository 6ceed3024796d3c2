"""Child process of a subprocess worker: reads jobs from a pipe and plays them.

Messages to the child are

- ``("store", fingerprint, store)``: a store that later jobs name by its fingerprint;
- ``("play", packed_job, start, stop)``: play episodes ``start`` to ``stop`` of a job.

For every job the child sends ``("ready", path, reason, batch_size)`` after compilation,
``("failed", k, message)`` for each episode that raised an error, and ``("done", seconds, killed)``
at the end; ``batch_size`` is that of the
:class:`~autotts_gym.rollout.episode_player.EpisodePlayer`. The child sends ``("unplayable",
message)`` if the agent cannot be loaded, and ``("raised", error)`` if the caller passed an invalid
job. Results and the ledger of the running episode are in shared memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from autotts_gym.controllers.errors import AgentError
from autotts_gym.evaluation.backends.in_process import InProcessWorker
from autotts_gym.mdp import state as s
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.processes import end_with_parent

#: Number of episodes per ``play`` message; the shared memory holds their results.
CHUNK: Final = 1024


def serve_jobs(pipe: Connection, played: Any, ledger: Any, results: Any, time_limit: float) -> None:
    """Play jobs from a pipe until it closes.

    Args:
        pipe: connection to the parent.
        played: shared int64[1], number of episodes that have ended.
        ledger: shared ``LEDGER`` record, the ledger of the running episode.
        results: shared ``RESULT`` records, the results of the episodes that have ended.
        time_limit: seconds after which a sandbox kills an episode.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # the parent kills the group, and with it everything that a program started
    end_with_parent(group=True)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # output of programs must not mix with the tables on stdout
    worker = InProcessWorker(np.frombuffer(ledger, s.LEDGER), time_limit)
    counter = np.frombuffer(played, np.int64)
    rows = np.frombuffer(results, s.RESULT)
    stores: dict[str, TraceStore] = {}
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            return
        except AgentError as error:  # unpickling loads the agent, which may fail only here
            pipe.send(("unplayable", str(error)))
            continue
        if message[0] == "store":
            stores[message[1]] = message[2]
            continue
        _, packed, start, stop = message
        try:
            job = packed.unpack(stores[packed.fingerprint])
            player = worker.player(job)
            pipe.send(("ready", player.path, player.reason, player.batch_size))
            started = time.perf_counter()
            player.play_remaining(
                job.questions()[start:stop],
                job.orders(start, stop),
                job.beta,
                rows[: stop - start],
                counter,
                lambda k, text: pipe.send(("failed", k, text)),
            )
            pipe.send(("done", time.perf_counter() - started, player.killed))
        except Exception as error:  # an invalid config or store, not an error of the controller
            pipe.send(("raised", error))
