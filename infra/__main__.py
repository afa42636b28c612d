"""`python -m infra` is `milepost`."""

from infra.cli import main

main()
