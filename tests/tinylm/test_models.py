"""The bundled models: loading, number of parameters, and accuracy above chance."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoTokenizer, Qwen3ForCausalLM

from autotts_gym.tinylm import SIZES, model_path, questions
from autotts_gym.tinylm.arithmetic_chain import parse_chain
from autotts_gym.tinylm.qwen3_model import build_model, count_parameters
from autotts_gym.tinylm.trainer import CARD
from autotts_gym.tinylm.vocabulary import END, PAD_ID, TOKENS, decode, encode

PARAMETERS = {"small": 270_832, "medium": 796_032, "large": 1_179_296}


@pytest.mark.parametrize("size", SIZES)
def test_parameters_and_card(size: str) -> None:
    path = model_path(size)
    model = Qwen3ForCausalLM.from_pretrained(path)
    assert model.dtype == torch.bfloat16
    assert count_parameters(model) == PARAMETERS[size]
    assert count_parameters(build_model(SIZES[size].shape, 0)) == PARAMETERS[size]
    assert (path / "model.safetensors").stat().st_size < 3_000_000
    card = yaml.safe_load((path / CARD).read_text(encoding="utf-8"))
    assert card["size"] == size
    assert card["parameters"] == PARAMETERS[size]
    assert card["teacher"] == SIZES[size].teacher.card()
    assert card["tokens"] >= SIZES[size].tokens
    assert card["command"].startswith(f"autotts tinylm train --size {size} ")
    assert "fallible teacher" in card["what"]
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.convert_ids_to_tokens(range(len(TOKENS))) == list(TOKENS)


@torch.inference_mode()
def test_accuracy_on_easy_questions_and_probes_settle() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Qwen3ForCausalLM.from_pretrained(model_path("medium"), dtype=torch.float32)
    easy = [question for question in questions("chain") if "easy" in question.id][:6]
    prompts = [encode(parse_chain(question.question).prompt) for question in easy]

    def answers(ids: list[list[int]], max_tokens: int, sampled: bool) -> list[str]:
        width = max(map(len, ids))
        padded = torch.tensor([[PAD_ID] * (width - len(row)) + row for row in ids])
        written = model.generate(
            padded,
            attention_mask=(padded != PAD_ID).long(),
            max_new_tokens=max_tokens,
            do_sample=sampled,
            temperature=0.8 if sampled else None,
        )
        return [decode(row[width:]).split(END)[0] for row in written.tolist()]

    traces = answers([prompt for prompt in prompts for _ in range(4)], 400, sampled=True)
    golds = np.repeat([question.answer for question in easy], 4)
    ends = [trace.partition("</think>answer:")[2] for trace in traces]
    assert np.mean(np.array(ends) == golds) > 0.5  # by chance: 0.01
    # A probe after the first step rarely shows the final answer; one just before the end does.
    closing = encode("</think>answer:")
    thinking = [encode(trace.partition("</think>")[0]) for trace in traces]
    rows = [prompt for prompt in prompts for _ in range(4)]
    late = answers([p + t[:-2] + closing for p, t in zip(rows, thinking, strict=True)], 4, False)
    assert np.mean(np.array(late) == ends) > 0.8
    early = answers([p + t[:9] + closing for p, t in zip(rows, thinking, strict=True)], 4, False)
    assert np.mean(np.array(early) == ends) < 0.5


def test_unknown_size() -> None:
    with pytest.raises(
        ValueError, match="unknown tiny model 'huge'; the sizes are small, medium, large"
    ):
        model_path("huge")


def test_import_does_not_load_torch() -> None:
    code = (
        "import sys, autotts_gym.tinylm, autotts_gym.tinylm.trainer\n"
        "print(*{'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == ""
