"""HOW IT IS SHOWN: the typed report, its sentences and its formats. Trains nothing."""
