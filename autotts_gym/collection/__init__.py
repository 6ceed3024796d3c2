"""Collection of reasoning traces from language models, from questions to a trace store."""
