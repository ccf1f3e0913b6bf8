import sys

from robustgen.cli import main

main(["run", *sys.argv[1:]])
