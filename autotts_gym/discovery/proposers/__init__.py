"""Who proposes programs, besides the genetic search: commands, chat endpoints, Claude Code."""
