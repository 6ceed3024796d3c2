"""The proposers: genetic search, regression, commands, chat endpoints and Claude Code."""
