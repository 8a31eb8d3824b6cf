"""``python -m tensorcore``: the command line where its script isn't on the PATH."""

from tensorcore.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
