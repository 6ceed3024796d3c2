"""Helpers that every layer may use: atomic files and child processes."""
