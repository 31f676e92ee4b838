"""The command `quiver`: first make sure that the packages are ours, then hand over to the command line."""

import sys

from quiver_oracle.collision import find_collision

EXIT_USAGE = 2


def main() -> None:
    """Run `quiver`; exits with 2 and a sentence when another distribution has taken one of our package names."""
    collision = find_collision()
    if collision is not None:
        sys.stderr.write(f"quiver: {collision.message}\n")
        raise SystemExit(EXIT_USAGE)
    from validator.cli import main as run_command_line

    raise SystemExit(run_command_line())


if __name__ == "__main__":
    main()
