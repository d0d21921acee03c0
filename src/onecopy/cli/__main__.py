"""``python -m onecopy.cli``: the same command, if the script `onecopy` is not on the path."""

from onecopy.cli import main

if __name__ == "__main__":  # a spawned child imports this file again
    main()
