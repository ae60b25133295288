"""``python -m fastzoo`` is the command line."""

from fastzoo.cli import main

main()
