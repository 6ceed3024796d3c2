"""Deployment: answering questions with a controller on a running model."""
