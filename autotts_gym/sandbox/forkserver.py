"""The fork server of a sandbox: two processes that start, watch and end those of the episodes.

It runs as a program in an interpreter of its own, which never holds traces:

- the *template* (:mod:`autotts_gym.sandbox.template`) has loaded what programs may import, and is
  copied for every episode. Its memory is what an episode's process starts from, so it knows
  nothing of the episodes.
- the *supervisor* (:mod:`autotts_gym.sandbox.supervisor`) is the parent of the episodes' processes,
  which do not have its memory. It knows their process ids, measures them and ends them.

Where the system has namespaces, a third process waits outside of them for their end.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from types import ModuleType

if __name__ == "__main__":
    # Make the package importable without running its __init__.
    sys.path += [path for path in sys.argv[4:] if path not in sys.path]
    _package = ModuleType("autotts_gym")
    _package.__path__ = [os.path.join(sys.argv[4], "autotts_gym")]
    sys.modules["autotts_gym"] = _package

from autotts_gym.sandbox import lockdown, namespaces, template
from autotts_gym.sandbox.supervisor import Supervisor


def main() -> None:
    """Start the processes. Arguments: descriptors of the two sockets, and 1 for namespaces."""
    # Low descriptors: the processes close all descriptors below a limit.
    orders, starts = (socket.socket(fileno=os.dup(int(one))) for one in sys.argv[1:3])
    for descriptor in sys.argv[1:3]:
        os.close(int(descriptor))
    os.environ.clear()
    # Until numpy is loaded: a thread would run beside the template, and write to its memory.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the player's to handle
    if sys.argv[3] == "1":
        if not namespaces.enter():
            starts.sendall(b"namespaces: the system does not create them\n")
            return
        first = os.fork()
        if first:
            orders.close()
            starts.close()
            lockdown.drop_privileges()
            os.waitpid(first, 0)
            return
    incoming, outgoing = os.pipe()
    if not os.fork():
        orders.close()
        os.close(incoming)
        try:
            template.main(starts, outgoing)
        finally:
            os._exit(1)
    starts.close()
    os.close(outgoing)
    lockdown.drop_privileges()
    Supervisor(orders, incoming).serve()


if __name__ == "__main__":
    main()
