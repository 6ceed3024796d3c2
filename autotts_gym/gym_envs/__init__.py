"""Gymnasium environments: single, vectorized, macro-action and live, and their wrappers."""
