"""`python -m cxrkit`, and the script `cxrkit`."""

import sys


def main() -> None:
    """Run the command line. Loading it takes a moment: Ctrl-C is heard in it, too."""
    try:
        from cxrkit.cli import main as run
    except KeyboardInterrupt:
        print("interrupted: nothing was begun", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    from cxrkit.base import current_folder

    current_folder.not_first()
    main()
