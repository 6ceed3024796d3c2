"""The supported architectures of GGUF files: configuration, and names and shapes of the weights.

The names in GGUF are those of llama.cpp, and the converted ones those of transformers. For models
of the Llama architecture, llama.cpp reorders the rows of the query and key weights, because it
rotates neighbouring components of a head where transformers rotates its two halves.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from autotts_gym.model_files.gguf_header import GgufError, GgufHeader


class Architecture(NamedTuple):
    """How an architecture is converted.

    Attributes:
        model_class: class of transformers.
        reordered: whether the rows of query and key weights are reordered.
        biases: whether query, key and value have biases.
        head_norms: whether query and key are normalised for each head.
    """

    model_class: str
    reordered: bool = False
    biases: bool = False
    head_norms: bool = False


#: Architectures by ``general.architecture``, which are transformers' names as well.
ARCHITECTURES: Final = {
    "llama": Architecture("LlamaForCausalLM", reordered=True),
    "qwen2": Architecture("Qwen2ForCausalLM", biases=True),
    "qwen3": Architecture("Qwen3ForCausalLM", head_norms=True),
}


class Weight(NamedTuple):
    """A weight of the converted model.

    Attributes:
        source: its name in the GGUF file.
        shape: the expected shape.
        heads: number of heads whose rows are reordered; 0 if none are.
    """

    source: str
    shape: tuple[int, ...]
    heads: int = 0


class ModelShape(NamedTuple):
    """Dimensions of a model; ``head`` is the dimension of an attention head."""

    vocabulary: int
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    key_value_heads: int
    head: int


def architecture_of(header: GgufHeader) -> str:
    """Return the name of a file's architecture.

    Raises:
        GgufError: it is not supported; the message lists those that are. Or the file is a part of
            several, or has position scaling or experts.
    """
    name: str = header.require("general.architecture", str)
    if name not in ARCHITECTURES:
        raise GgufError(
            f"{header.path}: the architecture {name!r:.60} is not supported; supported are "
            f"{', '.join(ARCHITECTURES)}"
        )
    parts = header.get("split.count", int, 1)
    if parts > 1:
        raise GgufError(
            f"{header.path}: is one of {parts} parts; merge them first, with llama-gguf-split"
        )
    scaling = header.get(f"{name}.rope.scaling.type", str, "none")
    if scaling != "none" or "rope_freqs.weight" in header.tensors:
        kind = scaling if scaling != "none" else "by rope_freqs.weight"
        raise GgufError(f"{header.path}: scaled positions ({kind:.60}) are not supported")
    if header.get(f"{name}.expert_count", int, 0):
        raise GgufError(f"{header.path}: mixtures of experts are not supported")
    return name


def model_shape(header: GgufHeader, name: str) -> ModelShape:
    """Return the dimensions that a file's metadata state.

    Raises:
        GgufError: one is missing or out of range.
    """

    def dimension(key: str) -> int:
        value: int = header.require(f"{name}.{key}", int)
        if not 0 < value <= 1 << 24:
            raise GgufError(f"{header.path}: {name}.{key} is out of range: {value}")
        return value

    hidden, heads = dimension("embedding_length"), dimension("attention.head_count")
    stated = header.get(f"{name}.rope.dimension_count", int, hidden // heads)
    head = header.get(f"{name}.attention.key_length", int, stated)
    if head < 2 or head % 2:
        raise GgufError(f"{header.path}: heads of {head} components; expected an even number")
    return ModelShape(
        vocabulary=len(header.require("tokenizer.ggml.tokens", list)),
        hidden=hidden,
        feed_forward=dimension("feed_forward_length"),
        layers=dimension("block_count"),
        heads=heads,
        key_value_heads=header.get(f"{name}.attention.head_count_kv", int, heads),
        head=head,
    )


def model_config(header: GgufHeader, name: str, shape: ModelShape, dtype: str) -> dict[str, Any]:
    """Return the ``config.json`` of the converted model.

    Args:
        header: the GGUF file.
        name: the architecture.
        shape: dimensions of the model.
        dtype: type of the converted weights, such as ``float32``.

    Raises:
        GgufError: a value is missing.
    """
    config: dict[str, Any] = {
        "architectures": [ARCHITECTURES[name].model_class],
        "model_type": name,
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "hidden_act": "silu",
        "rms_norm_eps": header.require(f"{name}.attention.layer_norm_rms_epsilon", float),
        "rope_theta": header.get(f"{name}.rope.freq_base", float, 10_000.0),
        "max_position_embeddings": header.require(f"{name}.context_length", int),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "torch_dtype": dtype,
        # The version whose layout this is. Without it, version 5 warns about large vocabularies.
        "transformers_version": "4.55.0",
    }
    if name != "qwen2":  # there, it is always hidden_size / num_attention_heads
        config["head_dim"] = shape.head
    for key, source in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        config[f"{key}_token_id"] = header.get(f"tokenizer.ggml.{source}_token_id", int)
    return config


def model_weights(header: GgufHeader, name: str, shape: ModelShape) -> dict[str, Weight]:
    """Return the weights of the converted model, by name.

    Raises:
        GgufError: a tensor is missing, has another shape, or is unknown.
    """
    architecture = ARCHITECTURES[name]
    weights = {
        "model.embed_tokens.weight": Weight("token_embd.weight", (shape.vocabulary, shape.hidden)),
        "model.norm.weight": Weight("output_norm.weight", (shape.hidden,)),
    }
    if "output.weight" in header.tensors:
        weights["lm_head.weight"] = Weight("output.weight", (shape.vocabulary, shape.hidden))
    for layer in range(shape.layers):
        # Checked here, so that a wrong number of layers is one short message.
        if f"blk.{layer}.attn_norm.weight" not in header.tensors:
            raise GgufError(f"{header.path}: has no layer {layer}; it states {shape.layers} layers")
        for target, weight in _layer_weights(architecture, shape).items():
            source = f"blk.{layer}.{weight.source}"
            weights[f"model.layers.{layer}.{target}"] = weight._replace(source=source)
    for weight in weights.values():
        tensor = header.tensors.get(weight.source)
        if tensor is None:
            raise GgufError(f"{header.path}: has no tensor {weight.source}")
        if tensor.shape != weight.shape:
            raise GgufError(
                f"{header.path}: tensor {weight.source} has the shape {tensor.shape}; expected "
                f"{weight.shape}"
            )
    unknown = sorted(header.tensors.keys() - {weight.source for weight in weights.values()})
    if unknown:
        raise GgufError(
            f"{header.path}: {len(unknown)} tensors that {name} models do not have, such as "
            f"{unknown[0]!r:.80}"
        )
    return weights


def _layer_weights(architecture: Architecture, shape: ModelShape) -> dict[str, Weight]:
    """The weights of a layer; sources without the prefix of the layer."""
    hidden, feed_forward = shape.hidden, shape.feed_forward
    queries, keys = shape.heads * shape.head, shape.key_value_heads * shape.head
    reordered = architecture.reordered
    weights = {
        "input_layernorm.weight": Weight("attn_norm.weight", (hidden,)),
        "post_attention_layernorm.weight": Weight("ffn_norm.weight", (hidden,)),
        "self_attn.q_proj.weight": Weight(
            "attn_q.weight", (queries, hidden), shape.heads if reordered else 0
        ),
        "self_attn.k_proj.weight": Weight(
            "attn_k.weight", (keys, hidden), shape.key_value_heads if reordered else 0
        ),
        "self_attn.v_proj.weight": Weight("attn_v.weight", (keys, hidden)),
        "self_attn.o_proj.weight": Weight("attn_output.weight", (hidden, queries)),
        "mlp.gate_proj.weight": Weight("ffn_gate.weight", (feed_forward, hidden)),
        "mlp.up_proj.weight": Weight("ffn_up.weight", (feed_forward, hidden)),
        "mlp.down_proj.weight": Weight("ffn_down.weight", (hidden, feed_forward)),
    }
    if architecture.biases:
        for letter, size in (("q", queries), ("k", keys), ("v", keys)):
            weights[f"self_attn.{letter}_proj.bias"] = Weight(f"attn_{letter}.bias", (size,))
    if architecture.head_norms:
        for letter in "qk":
            name = f"self_attn.{letter}_norm.weight"
            weights[name] = Weight(f"attn_{letter}_norm.weight", (shape.head,))
    return weights
