"""A SECOND OPINION: reads the stores by itself and compares. Shares no code with execution or tracking."""
