"""Making the other node's trees equal to ours while the application goes on (reference 19.7)."""
