"""Search for controllers: proposers, the objective, the evaluator and the search loop."""
