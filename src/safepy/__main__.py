"""`python -m safepy` enters the command line."""

from safepy.cli.main import main

if __name__ == "__main__":
    main()
