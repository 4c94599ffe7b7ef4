"""What happens in a region, as its nodes tell it."""
