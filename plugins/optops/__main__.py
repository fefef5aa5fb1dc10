"""`python -m optops` is `optops`."""

from optops.cli import main

if __name__ == "__main__":
    main()
