"""Live episodes: connections to running models, branches that grow on them, and their traces."""
