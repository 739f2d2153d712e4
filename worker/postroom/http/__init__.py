"""What the HTTP servers of all programs share: endpoints, the server, the host guard, problem documents."""
