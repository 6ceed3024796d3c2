"""The three model sizes, and building and exporting their Qwen3 networks.

The models are ``Qwen3ForCausalLM`` of transformers with tied embeddings, saved in the layout that
vLLM loads.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from autotts_gym.tinylm.teacher import Teacher
from autotts_gym.tinylm.vocabulary import END_ID, PAD_ID, VOCABULARY_SIZE, build_tokenizer

if TYPE_CHECKING:
    from transformers import Qwen3Config, Qwen3ForCausalLM

#: Maximum number of positions, tokens.
MAX_POSITIONS: Final = 1024
WEIGHTS: Final = "model.safetensors"


@dataclass(frozen=True)
class ModelShape:
    """Dimensions of a network; ``head`` is the dimension of an attention head."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    key_value_heads: int
    head: int


class ModelSize(NamedTuple):
    """A model size and its training data.

    Attributes:
        shape: dimensions of the network.
        teacher: writer of the training traces. Smaller models get a worse teacher, so that the
            sizes differ clearly in accuracy. The largest model learns the misleading errors so well
            that its teacher makes fewer of them.
        tokens: default length of the training, tokens.
    """

    shape: ModelShape
    teacher: Teacher
    tokens: int


SIZES: Final = {
    "small": ModelSize(ModelShape(80, 240, 3, 4, 2, 32), Teacher(errors=1.8), 6_000_000),
    "medium": ModelSize(ModelShape(128, 384, 4, 4, 2, 32), Teacher(errors=1.2), 8_000_000),
    "large": ModelSize(
        ModelShape(160, 480, 4, 4, 2, 32), Teacher(errors=0.4, heavy=0.52), 8_000_000
    ),
}


def model_config(shape: ModelShape) -> Qwen3Config:
    """Return the transformers configuration of a network."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
        use_cache=True,
    )


def build_model(shape: ModelShape, seed: int) -> Qwen3ForCausalLM:
    """Build an untrained model in float32; the same seed gives the same weights."""
    import torch
    from transformers import Qwen3ForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(model_config(shape))


def count_parameters(model: Qwen3ForCausalLM) -> int:
    """Return the number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def export_model(model: Qwen3ForCausalLM, folder: str | os.PathLike[str]) -> None:
    """Write a model in bfloat16, with its configuration and tokenizer, into a folder.

    The model itself is not changed.

    Args:
        model: the model, in any precision.
        folder: target folder; created if needed.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import GenerationConfig

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: weight.detach().to(torch.bfloat16).contiguous()
        for name, weight in model.named_parameters()  # tied ones once
    }
    # The same files as save_pretrained, without its progress bar.
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config = type(model.config).from_dict(model.config.to_dict())
    config.architectures, config.dtype = [type(model).__name__], torch.bfloat16
    config.save_pretrained(folder)
    GenerationConfig(
        eos_token_id=END_ID, pad_token_id=PAD_ID, do_sample=True, temperature=0.8
    ).save_pretrained(folder)
    # safetensors writes files that only the owner can read; the package's files are for all users.
    (folder / WEIGHTS).chmod(0o644)
    build_tokenizer().save_pretrained(folder)
    # A class name that every version of transformers has.
    path = folder / "tokenizer_config.json"
    tokenizer_config = json.loads(path.read_text("utf-8"))
    tokenizer_config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(tokenizer_config, indent=2) + "\n", "utf-8")
