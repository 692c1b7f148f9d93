"""The demo data: a real pelvic CT with automatic labels, deformed copies of it, and simulated X-rays of them."""
