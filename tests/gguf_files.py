"""Small GGUF files: random models of transformers, written with the gguf package."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

#: Names in GGUF by names in transformers; those of a layer begin with its number in both.
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXT = (
    "the answer is 12 and then 345; so the sum is 357. We'll see, naïve café 数学\n\n  indented\n"
)


@cache
def vocabulary() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tokens and merges of a byte-level tokenizer that was trained on a short text."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        show_progress=False,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([_TEXT] * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return tuple(tokens), tuple(merges)


def random_model(architecture: str, *, tied: bool = False, head: int = 16, seed: int = 0) -> Any:
    """A model with random weights, in float32; ``head`` is the dimension of an attention head."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    options: dict[str, Any] = {"head_dim": head} if architecture != "qwen2" else {}
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(vocabulary()[0]),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=2**-17,
        rope_theta=50_000.0,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **options,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():  # norms and biases too, which start as ones and zeros
            torch.nn.init.normal_(parameter, std=0.2)
    return model.float().eval()


def write_gguf(
    path: Path,
    model: Any,
    *,
    quantization: str = "F32",
    metadata: Mapping[str, Any] | None = None,
    pre: str = "smollm",
) -> Path:
    """Write a model to a GGUF file, with the vocabulary above.

    Args:
        path: the file.
        model: of transformers.
        quantization: ggml type of the matrices.
        metadata: further entries; they replace those of the same key, and None leaves one out.
        pre: name of the pre-tokenizer.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quantize

    config = model.config
    name = config.model_type
    tokens, merges = vocabulary()
    entries: dict[str, Any] = {
        "general.name": "Tiny random model",
        "general.license": "apache-2.0",
        f"{name}.context_length": config.max_position_embeddings,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.block_count": config.num_hidden_layers,
        f"{name}.feed_forward_length": config.intermediate_size,
        f"{name}.attention.head_count": config.num_attention_heads,
        f"{name}.attention.head_count_kv": config.num_key_value_heads,
        f"{name}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{name}.rope.freq_base": 50_000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": list(tokens),
        "tokenizer.ggml.token_type": [3 if token in SPECIAL else 1 for token in tokens],
        "tokenizer.ggml.merges": list(merges),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }
    if getattr(config, "head_dim", None):
        entries[f"{name}.attention.key_length"] = config.head_dim
    entries |= metadata or {}
    writer = GGUFWriter(path, entries.pop("general.architecture", name))
    for key, value in entries.items():
        _add(writer, key, value)
    kind = GGMLQuantizationType[quantization]
    for target, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if name == "llama" and ("q_proj" in target or "k_proj" in target):
            heads = config.num_attention_heads if "q_proj" in target else config.num_key_value_heads
            # As in llama.cpp's converter.
            halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        for ours, theirs in _NAMES.items():
            target = target.replace(f"{ours}.", f"{theirs}.")
        values = np.ascontiguousarray(values)
        if values.ndim == 2 and kind != GGMLQuantizationType.F32:
            writer.add_tensor(target, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: Any, key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
