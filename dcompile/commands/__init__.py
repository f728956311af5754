"""One command of the command line a module. Heavy imports stand inside the commands that need them."""
