"""Trackers: where a run's values, images and config are recorded beside its own folder."""
