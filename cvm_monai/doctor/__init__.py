"""Is everything here that is needed, and what will a training cost? Imports nothing heavy until it is asked."""
