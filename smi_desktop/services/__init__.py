"""The use cases: functions named verb_noun that take the shop first. They know ports, never adapters."""
