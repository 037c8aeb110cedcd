# Reporter plugins run in the memopt command only.
