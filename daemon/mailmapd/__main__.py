"""`python -m mailmapd`: the command line, where no `mailmapd` program is installed."""

from mailmapd.cli import main

if __name__ == "__main__":
    main()
