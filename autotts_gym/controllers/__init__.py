"""Controllers: the handle that they play through, and loading them by name or by path."""
