"""`python cli.py` is `mgem`, from a checkout."""

from mgem_agent.cli import main

if __name__ == "__main__":
    main()
