"""Adaptive self-consistency of its_hub, for ``side_by_side.py``; runs in its_hub's environment.

Reads one question in JSON from each line of standard input, and writes the reply to standard
output in the same way. The server of its_hub offers plain self-consistency only.
"""

import asyncio
import contextlib
import json
import logging
import sys
from typing import Any, TextIO

from its_hub import AdaptiveSelfConsistency, OpenAICompatibleLanguageModel
from its_hub.core.algorithms.self_consistency import create_regex_projection_function


async def answer_all(settings: dict[str, Any], replies: TextIO) -> None:
    model = OpenAICompatibleLanguageModel(
        endpoint=settings["url"],
        api_key="none",
        model_name=settings["model"],
        max_completion_tokens=settings["max_tokens"],
        temperature=settings["temperature"],
    )
    algorithm = AdaptiveSelfConsistency(
        consistency_space_projection_func=create_regex_projection_function(settings["pattern"])
    )
    for line in sys.stdin:
        question = json.loads(line)
        reply = await algorithm.ainfer(model, question, budget=settings["samples"])
        print(json.dumps(reply["content"]), file=replies, flush=True)
    await model.close()


logging.disable(logging.WARNING)
output = sys.stdout
# Libraries print advice to standard output when a request fails.
with contextlib.redirect_stdout(sys.stderr):
    asyncio.run(answer_all(json.loads(sys.argv[1]), output))
