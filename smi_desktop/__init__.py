"""SMI Desktop: sell AI-upscaled versions of the pictures on a studio's website."""

__version__ = "0.1.0"
