"""Live episodes: the same process on a model that is running, and solving questions with it."""
