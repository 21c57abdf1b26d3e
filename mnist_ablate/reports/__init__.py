"""Reports for people and programs, made from recorded results. Nothing here judges, trains or records."""
