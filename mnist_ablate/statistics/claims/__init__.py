"""The kinds of claim, a file each: their keys, their numbers, their rule, their sentences. Reads no storage."""
