"""Who is believed: TLS contexts, the subjectAltName rule, certificate facts."""
