"""`python -m mgem_agent` is `mgem`."""

from mgem_agent.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
