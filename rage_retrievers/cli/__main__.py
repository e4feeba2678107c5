"""`python -m rage_retrievers.cli` is `rage`, where that is not on the path."""

from . import main

if __name__ == "__main__":
    main()
