"""What the benchmark programs share: nets, processes, timing, the machine, results."""
