"""The benchmark: bulk evaluation of controllers, and the analysis of its results."""
