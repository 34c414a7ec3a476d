"""The tiny HTTP receiver: storefront API, webhooks, downloads, customer pages. It does no slow work."""
