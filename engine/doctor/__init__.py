"""`callpoint doctor`: `checks` goes through them all, the others know one subject each."""
