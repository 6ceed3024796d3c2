"""Inference engines, protocols for prompting and probing models, and answer extraction."""
