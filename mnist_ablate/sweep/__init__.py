"""WHAT IS ASKED: a sweep file, read and checked, and the plan of its trials. Runs nothing."""
