"""What is fed to a network: sources on disk, reading, checks, augmentation and loaders. No module of a network here."""
