"""The tokenizer that a GGUF file describes, for byte-level vocabularies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from autotts_gym.model_files.gguf_header import GgufError, GgufHeader

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Kinds of tokens in ``tokenizer.ggml.token_type``.
_CONTROL: Final = 3
_USER_DEFINED: Final = 4

_QWEN2: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3: Final = _QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")
#: The pattern of GPT-2, which is built into ``ByteLevel``.
_GPT2: Final = ""

#: Patterns that split a text before tokens are merged, by ``tokenizer.ggml.pre``.
PRE_TOKENIZERS: Final = {
    "gpt-2": _GPT2,
    "smollm": _GPT2,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "llama-bpe": _LLAMA3,
}


def save_tokenizer(header: GgufHeader, folder: Path) -> None:
    """Write the tokenizer of a GGUF file, with its chat template, for transformers and vLLM.

    Args:
        header: the GGUF file.
        folder: an existing folder.

    Raises:
        GgufError: the tokenizer is not supported, or is invalid.
    """
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = header.require("tokenizer.ggml.tokens", list)
    arguments: dict[str, Any] = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        token = header.get(f"tokenizer.ggml.{key}_token_id", int)
        if token is not None:
            if token >= len(tokens):
                raise GgufError(
                    f"{header.path}: tokenizer.ggml.{key}_token_id is {token}, and there are "
                    f"{len(tokens)} tokens"
                )
            arguments[f"{name}_token"] = tokens[token]
    template = header.get("tokenizer.chat_template", str)
    if template is not None:
        arguments["chat_template"] = template
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(header),
        clean_up_tokenization_spaces=False,
        **arguments,
    )
    tokenizer.save_pretrained(folder)
    # A class name that every version of transformers has.
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


def build_tokenizer(header: GgufHeader) -> Any:
    """Return the tokenizer of a GGUF file, a ``tokenizers.Tokenizer``.

    Raises:
        GgufError: the tokenizer is not supported, or is invalid.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    kind = header.require("tokenizer.ggml.model", str)
    if kind != "gpt2":
        raise GgufError(
            f"{header.path}: the tokenizer {kind!r:.60} is not supported; supported is gpt2 "
            "(byte-level BPE)"
        )
    pre = header.require("tokenizer.ggml.pre", str)
    if pre not in PRE_TOKENIZERS:
        raise GgufError(
            f"{header.path}: the pre-tokenizer {pre!r:.60} is not supported; supported are "
            f"{', '.join(PRE_TOKENIZERS)}"
        )
    tokens = _read_strings(header, "tokenizer.ggml.tokens")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise GgufError(f"{header.path}: tokenizer.ggml.tokens has a token twice")
    merges: Any = [
        tuple(text.split(" ")) for text in _read_strings(header, "tokenizer.ggml.merges")
    ]
    try:
        # A token that is in the vocabulary as a whole is not merged from parts, with Llama 3.
        model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pre == "llama-bpe")
    except Exception as error:  # tokenizers has no error class of its own
        raise GgufError(f"{header.path}: tokenizer.ggml.merges are invalid: {error}") from error
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    if PRE_TOKENIZERS[pre] == _QWEN2:
        tokenizer.normalizer = normalizers.NFC()
    kinds = header.get("tokenizer.ggml.token_type", list, [])
    tokenizer.add_tokens(
        [
            AddedToken(token, normalized=False, special=token_kind == _CONTROL)
            for token, token_kind in zip(tokens, kinds, strict=False)
            if token_kind in (_CONTROL, _USER_DEFINED)
        ]
    )
    _add_first_token(tokenizer, header, tokens)
    return tokenizer


def _read_strings(header: GgufHeader, key: str) -> list[str]:
    values: list[Any] = header.require(key, list)
    if not all(isinstance(value, str) for value in values):
        raise GgufError(f"{header.path}: {key} must be an array of strings")
    return values


def _pre_tokenizer(pre: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    pattern = PRE_TOKENIZERS[pre]
    first: list[Any] = (
        [pre_tokenizers.Split(Regex(pattern), behavior="isolated")] if pattern else []
    )
    if pre == "smollm":
        first = [pre_tokenizers.Digits(individual_digits=True)]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern == _GPT2)
    return pre_tokenizers.Sequence([*first, last])


def _add_first_token(tokenizer: Tokenizer, header: GgufHeader, tokens: list[str]) -> None:
    """Begin every text with the bos token, if the file says so."""
    from tokenizers import processors

    token = header.get("tokenizer.ggml.bos_token_id", int)
    if header.metadata.get("tokenizer.ggml.add_bos_token") is True and token is not None:
        bos = tokens[token]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", bos, "$B"], special_tokens=[(bos, token)]
        )
