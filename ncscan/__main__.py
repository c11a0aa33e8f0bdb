"""`python -m ncscan` is `ncscan`."""

from ncscan.cli import main

if __name__ == "__main__":
    main()
