"""Everything that touches pixels. It runs in a child process with limits; `client` is the way in."""
