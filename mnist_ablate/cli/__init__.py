"""The command line: what is asked, what is recorded, the service for a team. Parses, calls, prints; holds no logic."""
