"""Model files: folders that vLLM and transformers load, made from GGUF files."""
