# Allocator plugins run inside foreign programs. To add one, copy three lines.
