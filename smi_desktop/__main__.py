"""`python -m smi_desktop` is the `smi-desktop` command."""

from smi_desktop.cli import main

if __name__ == "__main__":
    main()
