"""``python -m onecopy.cli``: the same command where the script is not on the path."""

from onecopy.cli import main

if __name__ == "__main__":  # a spawned child imports this file again
    main()
