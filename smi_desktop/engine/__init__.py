"""The loops and the workers. They run in the desktop app, beside the relay, or alone; any number of them."""
