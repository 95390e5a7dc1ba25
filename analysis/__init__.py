"""From result rows to frontiers, tables and figures. pandas; never torch, never Ray."""
