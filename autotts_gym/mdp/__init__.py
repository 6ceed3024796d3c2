"""The decision process: actions, state, rules, observation; compiled, and used by all."""
