"""The command `quiver`: first make sure that the packages are ours, then hand over to the command line."""

import sys
from importlib import import_module

from quiver_oracle.collision import find_collision

EXIT_USAGE = 2


def main() -> None:
    """Run `quiver`; exits with 2 and a sentence when another distribution has taken one of our package names."""
    collision = find_collision()
    if collision is not None:
        sys.stderr.write(f"quiver: {collision.message}\n")
        raise SystemExit(EXIT_USAGE)
    # By name: the public face is typed without the daemon, and nothing of ours is imported before the check.
    raise SystemExit(import_module("validator.cli").main())


if __name__ == "__main__":
    main()
