"""What a strategy costs and what it loses: runs of strategies over the questions of a suite."""
