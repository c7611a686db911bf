"""The dashboard and the HTTP/JSON API: a client of the control plane with no rights of its own."""
