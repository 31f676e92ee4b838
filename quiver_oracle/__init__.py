"""What a consumer or a protocol imports."""
