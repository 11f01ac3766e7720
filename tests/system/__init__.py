"""The appliance in five real guests: systemd as PID 1, dnf, firewalld, a network of their own (make test-system)."""
