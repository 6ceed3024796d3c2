"""Helpers for all layers: atomic files, journals and child processes."""
