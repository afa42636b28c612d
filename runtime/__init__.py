"""How a run moves: ports, the decision function, the conductor and the service loop. No network library."""
