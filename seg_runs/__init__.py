"""What a run is: arguments, launch, run folder, checkpoints, optimization, tables and pictures."""
