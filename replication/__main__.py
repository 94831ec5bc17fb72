"""``python -m replication`` is the command ``replication``."""

from replication.cli import main

if __name__ == "__main__":
    main()
