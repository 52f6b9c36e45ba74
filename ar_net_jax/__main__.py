"""`python -m ar_net_jax <job>` is the same as `arnet <job>`."""

from ar_net_jax.cli.main import main

if __name__ == "__main__":
    main()
