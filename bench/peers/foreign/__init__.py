"""Programs that run under the foreign libraries' own interpreters. Nothing here imports the product."""
