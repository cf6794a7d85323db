//! Test-only: the simulator.
