"""Reading as a service: pictures come in over HTTP, are collected into batches, and go out as texts."""
