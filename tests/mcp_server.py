"""A tiny MCP server over stdio, run by `test_tools` in a process of its own."""

from __future__ import annotations

from mcp.server import MCPServer

server = MCPServer("library")


@server.tool()
def lend(title: str, days: int = 14) -> str:
    """Lend a book.

    Args:
        title: which one.
        days: for how long.
    """
    return f"{title} is yours for {days} days"


if __name__ == "__main__":
    server.run("stdio")
