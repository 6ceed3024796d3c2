"""Recompute probes and generation confidences of a store with transformers, on the same weights.

Usage::

    python benchmarks/recomputed_probes.py STORE --model MODEL --cuts 100

``MODEL`` is the folder of the weights. Cuts (a branch and a number of intervals) are drawn among
the branches whose text encodes to the stored number of tokens: a store holds texts, not token
ids. For each cut, the answer is decoded greedily behind the prefix and compared with the stored one
as the model wrote it, and the confidences of the answer and of the interval before the cut are
compared as mean log-probabilities. Answers may differ where the two likeliest tokens of a position
are almost equally likely. Exit status 1 if anything else differs.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from autotts_gym.inference.engine import Generated
from autotts_gym.inference.protocol import QUESTION, Protocol
from autotts_gym.inference.token_confidence import TOP_TOKENS
from autotts_gym.traces.records import Branch, Question
from autotts_gym.traces.store import TraceStore

#: Difference of mean log-probabilities, and of the two likeliest tokens', that counts as equal.
TOLERANCE: Final = 1e-3


class Cut(NamedTuple):
    """A branch after ``intervals`` intervals, and the token ids of its prompt and of the branch."""

    question: Question
    branch: Branch
    intervals: int
    prompt: list[int]
    trace: list[int]


@dataclass
class Comparison:
    """What was recomputed at a cut, beside what is stored."""

    stored: str
    recomputed: str
    tie: bool
    answer_difference: float
    interval_difference: float

    @property
    def is_equal(self) -> bool:
        same = self.stored == self.recomputed and self.answer_difference <= TOLERANCE
        return (same or self.tie) and self.interval_difference <= TOLERANCE


class Recomputation:
    """A model in float32, and a protocol."""

    def __init__(self, folder: Path, protocol: Protocol) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.protocol = protocol
        self.suffix = self.encode(protocol.suffix)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def prompt(self, question: str) -> list[int]:
        content = self.protocol.content["prompt"]
        messages = [
            {**message, "content": message["content"].replace(QUESTION, question)}
            for message in content["messages"]
        ]
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **content.get("arguments", {})
        )
        return self.encode(text)

    def trace(self, branch: Branch) -> list[int] | None:
        """Token ids of a branch; None if its text does not encode to its number of tokens."""
        tokens = self.encode(branch.text or "")
        if "cut" not in branch.flags.split():
            tokens.append(self.model.generation_config.to_dict()["eos_token_id"])
        return tokens if len(tokens) == branch.tokens else None

    @torch.no_grad()
    def read(self, cut: Cut, interval: int) -> tuple[float, Any]:
        """Mean token confidence of the interval before a cut, and the cache of the prefix."""
        prefix = [*cut.prompt, *cut.trace[: cut.intervals * interval]]
        output = self.model(torch.tensor([prefix]), use_cache=True, logits_to_keep=interval + 1)
        logprobs = torch.log_softmax(output.logits[0, :-1].double(), -1)
        return float(-logprobs.topk(TOP_TOKENS).values.mean()), output.past_key_values

    @torch.no_grad()
    def probe(self, cache: Any) -> tuple[Generated, float]:
        """The output of a probe, and the least lead of a likeliest token in log-probability."""
        generated, lead, new = Generated(), math.inf, self.suffix
        stops = self.protocol.content["probe"].get("stop", ())
        while not generated.finish:
            output = self.model(torch.tensor([new]), past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            best = torch.log_softmax(output.logits[0, -1].double(), -1).topk(2)
            token = int(best.indices[0])
            lead = min(lead, float(best.values[0] - best.values[1]))
            new = [token]
            generated.tokens.append(token)
            generated.logprobs.append(float(best.values[0]))
            generated.pieces.append(self.tokenizer.decode([token], skip_special_tokens=True))
            generated.text = self.tokenizer.decode(generated.tokens, skip_special_tokens=True)
            found = [at for at in (generated.text.find(stop) for stop in stops) if at >= 0]
            if found or token in self.tokenizer.all_special_ids:
                generated.text = generated.text[: min(found, default=None)]
                generated.finish = "stop"
            elif len(generated.tokens) == self.protocol.probe_tokens:
                generated.finish = "length"
        return generated, lead

    def compare(self, cut: Cut, interval: int) -> Comparison:
        branch, row = cut.branch, cut.intervals - 1
        assert branch.raw is not None
        assert branch.confidences is not None
        assert branch.confidence_sums is not None
        assert branch.confidence_tokens is not None
        confidence, cache = self.read(cut, interval)
        generated, lead = self.probe(cache)
        probe = self.protocol.read_probe(generated)
        mean = branch.confidence_sums[row] / branch.confidence_tokens[row]
        return Comparison(
            branch.raw[row],
            probe.answer,
            lead < TOLERANCE,
            abs(math.log(probe.confidence) - math.log(branch.confidences[row])),
            abs(confidence - mean),
        )


def draw(store: TraceStore, model: Recomputation, count: int, seed: int) -> list[Cut]:
    """Draw cuts, and print among how many branches."""
    cuts: list[Cut] = []
    usable = total = 0
    for question in store:
        prompt = model.prompt(question.text)
        for branch in question.branches:
            total += bool(branch.probes)
            trace = model.trace(branch)
            if trace is not None and branch.probes:
                usable += 1
                depths = range(1, len(branch.probes) + 1)
                cuts += [Cut(question, branch, depth, prompt, trace) for depth in depths]
    print(f"{usable:,} of {total:,} branches with probes encode to their number of tokens")
    return random.Random(seed).sample(cuts, count)


def main() -> int:
    parser = argparse.ArgumentParser(description="Recompute probes with transformers.")
    parser.add_argument("store", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="Folder of the weights.")
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    store = TraceStore.open(arguments.store)
    details: dict[str, Any] = dict(store.card.details["protocol"])
    entries = {key: details[key] for key in details if key not in ("name", "sha256")}
    model = Recomputation(arguments.model, Protocol.from_dict(details["name"], entries))
    cuts = draw(store, model, arguments.cuts, arguments.seed)
    compared = []
    for cut in cuts:
        result = model.compare(cut, store.card.interval)
        compared.append(result)
        if not result.is_equal or result.stored != result.recomputed:
            print(f"{cut.question.id}, {cut.intervals} intervals: {result}")
    equal = sum(result.is_equal for result in compared)
    answers = sum(result.stored == result.recomputed for result in compared)
    same = [result for result in compared if result.stored == result.recomputed]
    print(f"{answers} of {len(cuts)} answers are the same characters; {equal} cuts are equal")
    print(
        "largest difference of mean log-probabilities: "
        f"{max(result.answer_difference for result in same):.2g} of an answer, "
        f"{max(result.interval_difference for result in compared):.2g} of an interval"
    )
    return int(equal < len(cuts))


if __name__ == "__main__":
    sys.exit(main())
