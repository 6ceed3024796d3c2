"""Collecting reasoning traces from language models: what is asked, and what becomes of it."""
