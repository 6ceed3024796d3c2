"""The gateway: an OpenAI-compatible server that answers with controllers on a model server."""
