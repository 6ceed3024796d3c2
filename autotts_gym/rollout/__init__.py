"""Bulk rollouts: many episodes of one controller on one trace store."""
