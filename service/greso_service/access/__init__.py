"""Who may do what: keys, their tenants and scopes, and the file that they are in."""
