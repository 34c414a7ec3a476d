"""The rules of the trade: money, prices, states, tokens. Standard library only; no input or output."""
