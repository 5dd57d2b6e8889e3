"""The HTTP surface: routes, authorization, the stream protocol, problems."""
