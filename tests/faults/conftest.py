"""What the tests that inject faults share."""
