"""`python -m onecopy`: the command line, if the program `onecopy` is not on the path."""

from onecopy.cli import main

if __name__ == "__main__":
    main()
