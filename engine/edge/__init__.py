"""The SIP process and the main process's end of it: `python -m engine.edge` is `__main__`, `link` its other end."""
