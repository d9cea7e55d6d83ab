"""The groups of `callpoint` commands that need more than a few lines of their own."""
