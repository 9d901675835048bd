"""Speed, measured side by side with peers in one run. Nothing here is collected by pytest."""
