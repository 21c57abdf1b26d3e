"""Commands of the command line, a module each; `cli` registers them. Heavy imports stay inside the functions."""
