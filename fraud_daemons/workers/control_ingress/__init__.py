"""Control and ingress: the gate and the world stream producer."""
