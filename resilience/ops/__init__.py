"""What every operator tool reads and draws: the fleet snapshot, its verdict and its sentences."""
