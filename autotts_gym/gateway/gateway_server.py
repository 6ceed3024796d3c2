"""Running a gateway with uvicorn, in one process or in several."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import sys
import tempfile

import msgspec
import uvicorn

from autotts_gym.gateway import request_log
from autotts_gym.gateway.controller_list import ControllerList
from autotts_gym.gateway.gateway_app import open_model
from autotts_gym.gateway.gateway_metrics import SHARED_FOLDER
from autotts_gym.gateway.gateway_settings import SETTINGS_VARIABLE, GatewaySettings


def run(
    settings: GatewaySettings, host: str = "127.0.0.1", port: int = 8080, workers: int = 1
) -> None:
    """Serve until a signal (SIGINT or SIGTERM) comes, then let running requests end.

    Args:
        settings: the gateway's settings.
        host, port: address to listen on.
        workers: number of processes.

    Raises:
        AgentError: a controller cannot be loaded.
        ValueError, OSError: a setting is invalid, a key is missing, or the upstreams cannot be
            used.
    """
    # Checked here, because uvicorn starts workers that fail again and again.
    ControllerList(settings.allowed_controllers)
    settings.client_keys()
    open_model(settings).close()
    request_log.set_up()
    # Every branch has a connection, and the usual limit of open files is low.
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    os.environ[SETTINGS_VARIABLE] = msgspec.json.encode(settings).decode()
    # uvicorn raises the signal again at its end, which must not leave the folder behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as stack:
        if workers > 1:
            folder = tempfile.TemporaryDirectory(prefix="autotts-gateway-")
            os.environ[SHARED_FOLDER] = stack.enter_context(folder)
        uvicorn.run(
            "autotts_gym.gateway.gateway_app:create_worker_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(settings.drain),
        )
