"""Everything that touches pixels. It runs in a limited child process; `client` is the way in."""
