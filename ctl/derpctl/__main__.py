"""`python -m derpctl` is `derpctl`."""

from derpctl.main import main


if __name__ == "__main__":
    main()
