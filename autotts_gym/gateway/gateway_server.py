"""Running a gateway with uvicorn, in one process or in several."""

from __future__ import annotations

import math
import os
import resource
import tempfile

import msgspec
import uvicorn

from autotts_gym.gateway import request_log
from autotts_gym.gateway.controller_list import ControllerList
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
        ValueError, OSError: a setting is invalid, or a key is missing.
    """
    # Checked here, because uvicorn starts workers that fail again and again.
    ControllerList(settings.allowed_controllers)
    settings.client_keys()
    settings.upstream_headers()
    request_log.set_up()
    # Every branch has a connection, and the usual limit of open files is low.
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    os.environ[SETTINGS_VARIABLE] = msgspec.json.encode(settings).decode()
    with tempfile.TemporaryDirectory(prefix="autotts-gateway-") as folder:
        if workers > 1:
            os.environ[SHARED_FOLDER] = folder
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
