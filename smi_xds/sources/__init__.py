"""What turns the outside into object events."""
