"""The engine's tasks over a simulated broker, disks, group and clock; everything from a seed."""
