"""The checks of `reverie.testing.ManagerConformance`, by subject."""
