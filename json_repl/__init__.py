"""The engine room of json-repl-session. Start reading at ../json_repl_session.py."""

__version__ = "0.1.0"
