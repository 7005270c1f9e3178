"""Both sides: what the session and its worker share. Standard library only, tiny imports."""
