"""What a setting can be: one file a setting, one dict a file. A new choice is a function and a line in one of them."""
