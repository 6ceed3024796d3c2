"""Learned controllers: policies, their training, and playing them."""
