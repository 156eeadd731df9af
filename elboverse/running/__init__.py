"""A run from config to file: assembly, its walk (start, resume, repeat), sweeps, sinks, environment, interrupts."""
