"""Security: read files that anybody may have written, allow what they ask for or refuse it, and redact secrets."""
