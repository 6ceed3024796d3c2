"""``autotts serve``: an OpenAI-compatible server that answers with controllers."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from autotts_gym.cli.options import Api, LatencyWeight, ServerApi


def serve(
    upstream: Annotated[
        list[str],
        typer.Option(
            "--upstream",
            metavar="URL",
            help="A model server, such as http://127.0.0.1:8000/v1; repeatable, for several "
            "servers of the same model.",
        ),
    ],
    upstream_key_env: Annotated[
        list[str] | None,
        typer.Option(
            "--upstream-key-env",
            metavar="VARIABLE",
            help="Environment variable with the API key of the upstreams; or one for each of them, "
            "in their order.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name of the model on the upstreams, if they serve several.")
    ] = None,
    served_model_name: Annotated[
        str | None,
        typer.Option(help="Name of the model for clients; by default, that on the upstreams."),
    ] = None,
    server_api: Api = ServerApi.tokens,
    controller: Annotated[
        list[str] | None,
        typer.Option(
            "--controller",
            help="A controller that requests may choose: a name, or the path of a file or folder; "
            "repeatable. The first one is the default. By default, cmc and self_consistency.",
        ),
    ] = None,
    beta: Annotated[float, typer.Option(help="Default β: 0 spends least, 1 most.")] = 0.5,
    latency_weight: LatencyWeight = 0.0,
    reference: Annotated[
        str | None,
        typer.Option(
            help="An environment that was collected from the model. Its card gives protocol, "
            "interval, sampling and the cost of self-consistency."
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol",
            help="A protocol that requests may choose: a name, or a YAML file; repeatable. The "
            "first one is the default. 'none' passes requests through to the model.",
        ),
    ] = None,
    interval: Annotated[
        int | None, typer.Option(help="Δ, tokens between two probes; 500 by default.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Maximum tokens of a branch.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Default sampling temperature.")] = None,
    max_branches: Annotated[int, typer.Option(help="N, maximum width of an episode.")] = 64,
    max_beta: Annotated[float, typer.Option(help="Largest β that a request may choose.")] = 1.0,
    max_token_budget: Annotated[
        int | None,
        typer.Option(help="Maximum billed tokens of an episode; unlimited by default."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Default seconds after which the best answer is given.")
    ] = 300.0,
    max_timeout: Annotated[
        float, typer.Option(help="Largest timeout that a request may choose, seconds.")
    ] = 600.0,
    concurrency: Annotated[
        int, typer.Option(help="Maximum number of concurrent episodes, of each worker.")
    ] = 32,
    queue: Annotated[
        int,
        typer.Option(
            help="Maximum number of waiting requests, of each worker; more get status 429."
        ),
    ] = 128,
    patience: Annotated[
        float, typer.Option(help="Seconds for which a failing upstream is asked again.")
    ] = 60.0,
    stall: Annotated[
        float,
        typer.Option(
            help="Seconds without data from an upstream after which its requests are sent again."
        ),
    ] = 30.0,
    drain: Annotated[
        float, typer.Option(help="Seconds that running requests have at shutdown.")
    ] = 60.0,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="AUTOTTS_API_KEY",
            help="A key that clients must show; several are separated by commas.",
        ),
    ] = None,
    api_key_file: Annotated[
        str | None, typer.Option(help="A file with keys that clients may show, one per line.")
    ] = None,
    generation_confidence: Annotated[
        bool, typer.Option(help="Ask the model for the log-probabilities of its likeliest tokens.")
    ] = True,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8080,
    workers: Annotated[int, typer.Option(help="Number of processes.", min=1)] = 1,
) -> None:
    """Serve OpenAI's API, and answer each request with a controller on a model server.

    The log is on the standard error stream, one JSON object per line. SIGTERM and Ctrl-C let
    running requests end.
    """
    try:
        from autotts_gym.gateway import gateway_server
        from autotts_gym.gateway.gateway_settings import KEY_VARIABLE, GatewaySettings
    except ImportError as error:
        raise ValueError(
            f"autotts serve needs more packages ({error}): pip install 'autotts-gym[serve]'"
        ) from error
    if api_key is not None:
        os.environ[KEY_VARIABLE] = api_key  # workers read it there
    settings = GatewaySettings(
        upstreams=tuple(upstream),
        upstream_key_envs=tuple(upstream_key_env or ()),
        model=model,
        served_model=served_model_name,
        api=server_api.value,
        protocols=tuple(protocol or ()),
        reference=reference,
        interval=interval,
        max_tokens=max_tokens,
        temperature=temperature,
        generation_confidence=generation_confidence,
        max_branches=max_branches,
        beta=beta,
        latency_weight=latency_weight,
        max_beta=max_beta,
        max_token_budget=max_token_budget,
        timeout=timeout,
        max_timeout=max(timeout, max_timeout),
        concurrency=concurrency,
        queue=queue,
        patience=patience,
        stall=stall,
        drain=drain,
        api_key_file=api_key_file,
        controllers=tuple(controller or ()),
    )
    gateway_server.run(settings, host, port, workers)
