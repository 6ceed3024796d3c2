"""The three sizes of the tiny models, and saving them the way vLLM loads a model.

They are Qwen3 models (``Qwen3ForCausalLM`` of transformers) with tied embeddings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from autotts_gym.tinylm.teacher import Teacher
from autotts_gym.tinylm.vocabulary import END_ID, PAD_ID, SIZE, tokenizer

if TYPE_CHECKING:
    from transformers import Qwen3Config, Qwen3ForCausalLM

#: Tokens that a model's positions were made for.
MOST_TOKENS: Final = 1024
WEIGHTS: Final = "model.safetensors"


@dataclass(frozen=True)
class Shape:
    """The shape of a network, in the terms of the Qwen3 configuration."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    key_value_heads: int
    head: int


class Size(NamedTuple):
    """A size of model, and what it is trained on.

    Attributes:
        shape: of the network.
        teacher: whom it learns from. A smaller model also gets the worse teacher, so that the sizes
            differ clearly in strength. The largest one learns so well what misleads a majority
            that its teacher is less often misled.
        tokens: of the training, unless told otherwise.
    """

    shape: Shape
    teacher: Teacher
    tokens: int


SIZES: Final = {
    "small": Size(Shape(80, 240, 3, 4, 2, 32), Teacher(errors=1.8), 6_000_000),
    "medium": Size(Shape(128, 384, 4, 4, 2, 32), Teacher(errors=1.2), 8_000_000),
    "large": Size(Shape(160, 480, 4, 4, 2, 32), Teacher(errors=0.4, heavy=0.52), 8_000_000),
}


def config(shape: Shape) -> Qwen3Config:
    """The transformers configuration of a network."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=SIZE,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head,
        max_position_embeddings=MOST_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
        use_cache=True,
    )


def build(shape: Shape, seed: int) -> Qwen3ForCausalLM:
    """A new model in float32; the same seed gives the same weights."""
    import torch
    from transformers import Qwen3ForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config(shape))


def export(model: Qwen3ForCausalLM, folder: Path) -> None:
    """Write a model in bfloat16, its configurations and its tokenizer into a folder.

    The model itself is left as it is.

    Args:
        model: in any precision.
        folder: is made if there is none.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: weight.detach().to(torch.bfloat16).contiguous()
        for name, weight in model.named_parameters()  # tied ones once
    }
    # What save_pretrained does, but for its progress bar.
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    settings = type(model.config).from_dict(model.config.to_dict())
    settings.architectures, settings.dtype = [type(model).__name__], torch.bfloat16
    settings.save_pretrained(folder)
    GenerationConfig(
        eos_token_id=END_ID, pad_token_id=PAD_ID, do_sample=True, temperature=0.8
    ).save_pretrained(folder)
    # For the owner alone, as safetensors writes it; a package is for all.
    (folder / WEIGHTS).chmod(0o644)
    tokenizer().save_pretrained(folder)
    # The class by the name that every version of transformers knows.
    path = folder / "tokenizer_config.json"
    loading = json.loads(path.read_text("utf-8"))
    loading["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(loading, indent=2) + "\n", "utf-8")
