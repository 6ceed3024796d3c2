"""Language models that generate: engines, how models are prompted and probed, answers."""
