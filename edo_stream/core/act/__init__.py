"""The act plane's rules: which command runs next, and what becomes of it; pure as all of core."""
