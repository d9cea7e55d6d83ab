"""The groups of `callpoint` commands, one a file. Imports stand inside the commands so that each starts fast."""
