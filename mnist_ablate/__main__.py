"""`python -m mnist_ablate`, where the command itself is not on the path."""

from mnist_ablate.cli.app import main

if __name__ == "__main__":
    main()
