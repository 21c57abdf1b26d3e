"""From a claim about training a network to evidence and a verdict; the command line is `cli`."""
