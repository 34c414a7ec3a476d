"""One outside system per module, behind the ports of `smi_desktop.services.ports`."""
