"""What is fed to a network: sources on disk, reading, checks, augmentation and loaders. It imports no networks."""
