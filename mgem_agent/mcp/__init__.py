"""The agent as tools and resources of the Model Context Protocol (MCP)."""
