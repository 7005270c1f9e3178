"""Parent side: the loop, the sessions, the methods, the history."""
