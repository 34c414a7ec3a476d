"""The rehearsal shop: Stripe, Upsampler and a mail server on loopback that speak the real protocols.

`python -m smi_desktop.sandbox --data DIR` serves all three in one process. Nothing here is called by the
shop in any other way than over HTTP and SMTP, with the official SDK and the same adapters as in earnest.
"""
