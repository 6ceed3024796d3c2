"""Controllers that are found: proposers, the score of what they propose, and the loop between."""
